"""The wallet's machines by the kind of exchange: how each steps, how its states are stored, and when it is open."""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from protocol.machine import Effect, State
from protocol.wallet import exchange, payment, redemption, refund, transfer, withdrawal

Step: TypeAlias = Callable[..., tuple[State, tuple[Effect, ...]]]


class Machine(NamedTuple):
    """A machine as driver and store see it; an exchange in one of the `open` states goes on.

    In a `resting` one nothing is due for long: no command waits for it.
    """

    step: Step
    states: msgspec.msgpack.Decoder[Any]
    open: tuple[type[State], ...]
    resting: tuple[type[State], ...] = ()


MACHINES: Final[Mapping[str, Machine]] = {
    "withdraw": Machine(withdrawal.step, msgspec.msgpack.Decoder(withdrawal.WithdrawalState), (withdrawal.Requested,)),
    "pay": Machine(
        payment.step,
        msgspec.msgpack.Decoder(payment.PaymentState),
        (payment.Paying, payment.Waiting, payment.Asking, payment.Unreceipted),
    ),
    "exchange": Machine(exchange.step, msgspec.msgpack.Decoder(exchange.ExchangeState), (exchange.Requested,)),
    "redeem": Machine(redemption.step, msgspec.msgpack.Decoder(redemption.RedemptionState), (redemption.Requested,)),
    "refund": Machine(
        refund.step,
        msgspec.msgpack.Decoder(refund.RefundState),
        (refund.Requested, refund.Checking, refund.Waiting),
        resting=(refund.Waiting,),
    ),
    "transfer": Machine(
        transfer.step, msgspec.msgpack.Decoder(transfer.TransferState), (transfer.Sent, transfer.Closing)
    ),
}
