"""§8: accounts, claimed, looked at, taken over."""

from protocol.errors import PeerError
from protocol.messages import CLIENT, MERCHANT, AccountAnswer, AccountRequest, Certificate, Signed
from protocol.refusals import Refusal
from protocol.signatures import Domain
from protocol.topics import check_name

from ..case import Skipped, Suite
from ..voice import Voice
from .visit import Visit, code_of

suite = Suite[Visit]("bank")

LOOK = AccountRequest(b"", 0)


@suite.case("account.unknown", "8", "A key without an account, and without an invitation, is `unknown_account`.")
async def _unknown(visit: Visit) -> None:
    await visit.passer_by().refused(Refusal.UNKNOWN_ACCOUNT, visit.receiver, "account", LOOK, what="a look")


@suite.case("account.no-invitation", "8", "An invitation that no unclaimed account has is `invalid_invitation`.")
async def _no_invitation(visit: Visit) -> None:
    asked = AccountRequest(visit.entropy.bytes(16), 0)
    await visit.passer_by().refused(Refusal.INVALID_INVITATION, visit.receiver, "account", asked)


@suite.case("account.anonymous", "8", "An anonymous letter is `bad_signature`.")
async def _anonymous(visit: Visit) -> None:
    await visit.stranger.refused(Refusal.BAD_SIGNATURE, visit.receiver, "account", LOOK)


@suite.case("account.order-1", "8", "`malformed` comes before `bad_signature`.")
async def _malformed_first(visit: Visit) -> None:
    body = b"\x92\xc4\x00"
    await visit.stranger.refused(Refusal.MALFORMED, visit.receiver, "account", body, what="malformed and anonymous")


@suite.case(
    "account.claim", "8", "An invitation claims its account for the key: generation 1, no certificate for a client."
)
async def _claim(visit: Visit) -> None:
    account = await visit.client_account()
    visit.notes.same("kind", CLIENT, account.kind)
    visit.notes.same("generation", 1, account.generation)
    visit.notes.same("certificate", b"", account.certificate)


@suite.case("account.look", "8", "An empty invitation looks at the account of the key.")
async def _look(visit: Visit) -> None:
    account = await visit.client_account()
    body = await visit.client.granted(visit.receiver, "account", LOOK, what="a look")
    seen = AccountAnswer.decode(body)
    named = (seen.account, seen.kind, seen.name, seen.currency, seen.generation)
    wanted = (account.account, account.kind, account.name, account.currency, visit.generation)
    visit.notes.same("the account", wanted, named)


@suite.case("account.shown-again", "8", "Who shows the invitation once more that it has used sees its account.")
async def _shown_again(visit: Visit) -> None:
    account = await visit.client_account()
    asked = AccountRequest(visit.client_invitation, 0)
    seen = AccountAnswer.decode(
        await visit.client.granted(visit.receiver, "account", asked, what="the used invitation")
    )
    visit.notes.same("account", account.account, seen.account)


@suite.case("account.used", "8", "An invitation that was used is `invalid_invitation` for another key.")
async def _used(visit: Visit) -> None:
    await visit.client_account()
    asked = AccountRequest(visit.client_invitation, 0)
    await visit.passer_by().refused(Refusal.INVALID_INVITATION, visit.receiver, "account", asked)


@suite.case("account.exists", "8", "A key that has an account is refused another one: `account_exists`.")
async def _exists(visit: Visit) -> None:
    await visit.client_account()
    if visit.merchant_claimed:
        raise Skipped("the second invitation was used already")
    asked = AccountRequest(visit.merchant_invitation, 0)
    await visit.client.refused(Refusal.ACCOUNT_EXISTS, visit.receiver, "account", asked)


@suite.case("account.order-2", "8", "`account_exists` comes before `superseded`.")
async def _exists_first(visit: Visit) -> None:
    await visit.client_account()
    if visit.merchant_claimed:
        raise Skipped("the second invitation was used already")
    asked = AccountRequest(visit.merchant_invitation, visit.generation + 5)
    await visit.client.refused(Refusal.ACCOUNT_EXISTS, visit.receiver, "account", asked, what="with a wrong generation")


@suite.case("account.late", "8", "A request whose deadline is past is `request_expired`, though all else is right.")
async def _late(visit: Visit) -> None:
    await visit.client_account()
    await visit.client.refused(Refusal.REQUEST_EXPIRED, visit.receiver, "account", LOOK, deadline=1)


@suite.case("account.late-claim", "7.4", "A claim that is late is refused, and the invitation is not used up.")
async def _late_claim(visit: Visit) -> None:
    if visit.merchant_claimed:
        raise Skipped("the second invitation was used already")
    asked = AccountRequest(visit.merchant_invitation, 0)
    await visit.merchant.refused(Refusal.REQUEST_EXPIRED, visit.receiver, "account", asked, deadline=1)
    await visit.merchant_account()


@suite.case("account.merchant", "8", "A merchant's account has a certificate, signed by the bank, of its name and key.")
async def _merchant(visit: Visit) -> None:
    account = await visit.merchant_account()
    visit.notes.same("kind", MERCHANT, account.kind)
    try:
        signed = Signed.decode(account.certificate)
        certificate = Certificate.decode(signed.check(visit.keyset.identity, Domain.CERTIFICATE))
        check_name(certificate.merchant)
    except PeerError as error:
        visit.notes.fail("a certificate that verifies", code_of(error))
    wanted = (visit.keyset.bank, account.account, account.currency, account.name, visit.merchant.key)
    named = (certificate.bank, certificate.account, certificate.currency, certificate.name, certificate.key)
    visit.notes.same("the certificate", wanted, named)


async def _twice(visit: Visit, voice: Voice, body: AccountRequest) -> None:
    visit.notes.tell("account: the same bytes, twice")
    asking = voice.write(visit.receiver, "account", body)
    first = await voice.send(asking)
    visit.notes.same("the same answer, byte for byte:", first, await voice.send(asking))


@suite.case("account.twice", "7.2", "A request that was answered has the stored answer again, byte for byte.")
async def _same_answer(visit: Visit) -> None:
    await visit.client_account()
    await _twice(visit, visit.client, LOOK)


@suite.case("account.stored-refusal", "7.2", "A final refusal to an account's key is stored, and given again.")
async def _stored_refusal(visit: Visit) -> None:
    await visit.client_account()
    await _twice(visit, visit.client, AccountRequest(b"", visit.generation + 7))


@suite.case("account.id", "7.2", "Another request under an id that was answered is `request_id_reused`.")
async def _id(visit: Visit) -> None:
    await visit.client_account()
    request_id = visit.client.new_id()
    await visit.client.granted(visit.receiver, "account", LOOK, request_id=request_id, what="a look")
    await visit.client.refused(
        Refusal.REQUEST_ID_REUSED, visit.receiver, "account", LOOK, request_id=request_id, what="another, under its id"
    )


@suite.case("account.superseded", "8", "A generation that is neither 0 nor the next is `superseded`.")
async def _superseded(visit: Visit) -> None:
    await visit.client_account()
    for generation in (visit.generation, visit.generation + 2):
        asked = AccountRequest(b"", generation)
        what = f"generation {generation} of {visit.generation}"
        await visit.client.refused(Refusal.SUPERSEDED, visit.receiver, "account", asked, what=what)


@suite.case(
    "account.take-over", "8", "The next generation takes the account over; the one before is `superseded` then."
)
async def _take_over(visit: Visit) -> None:
    await visit.client_account()
    before = visit.generation
    asked = AccountRequest(b"", before + 1)
    body = await visit.client.granted(visit.receiver, "account", asked, what="a take-over")
    visit.notes.same("generation", before + 1, AccountAnswer.decode(body).generation)
    visit.generation = before + 1
    request_id = visit.client.new_id()
    late = await visit.ordered(await visit.unit(), request_id=request_id, generation=before)
    await visit.client.refused(
        Refusal.SUPERSEDED, visit.receiver, "withdraw", late, request_id=request_id, what="by the generation before"
    )
