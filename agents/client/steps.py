"""What the wallet does before it pays, in words."""

from protocol.money import format_minor

from .pay import Change, Quote, Ready, Shortfall, Step


def before_paying(quote: Quote, step: Step) -> str:
    """Say what has to be done before the payment, and what that costs; nothing if the coins are there."""
    currency = quote.amount.currency
    match step:
        case Ready():
            return ""
        case Change(plan=plan, purpose=purpose):
            why = "are changed for smaller ones" if purpose == "change" else "are exchanged for fresh ones"
            worth = format_minor(sum(value * count for value, count in plan.inputs.items()), currency)
            return (
                f"Your coins do not make {quote.amount}: coins worth {worth} {why} first, without anybody seeing whose "
                f"they are, at a commission of {format_minor(plan.commission, currency)}."
            )
        case Shortfall(amounts=amounts):
            return (
                f"Your coins are worth less than {quote.amount}: {amounts[0]} will be withdrawn first, at a commission "
                f"of {format_minor(charged_before(quote, step), currency)}, or less if the account holds less. It is "
                "more than the price, so as not to tell the bank what you pay; withdrawing well ahead tells it less."
            )


def charged_before(quote: Quote, step: Step) -> int:
    """Return what the bank charges, in minor units, for what is done before the payment."""
    match step:
        case Change(plan=plan):
            return plan.commission
        case Shortfall(amounts=amounts):
            return quote.bank.keyset.tariff.withdrawal.charge(amounts[0].value)
        case _:
            return 0
