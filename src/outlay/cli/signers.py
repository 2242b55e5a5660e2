"""``outlay signers``: the signer's journal, and a new one in the place of a lost one."""

from cyclopts import App

from outlay.cli.output import Yes, facts, said
from outlay.cli.profile import FROM_PROFILE, Caller
from outlay.core.errors import PreconditionFailed

signers = App(name="signers")


@signers.command
def show(*, caller: Caller = FROM_PROFILE) -> None:
    """Print what the signer says of itself."""
    state = caller.read("/v1/signer")
    pairs = [("journal", state["journalId"]), ("in place", "yes" if state["seeded"] else "NO: outlay signers reseed")]
    pairs += [("stopped", f"{each['scope']} {each['subject']}".strip()) for each in state.get("freezes", [])]
    pairs += [(wallet_id, f"signs from nonce {nonce} on") for wallet_id, nonce in sorted(state["minNonces"].items())]
    caller.tell(state, lambda: facts(pairs))


@signers.command
def reseed(*, reason: str, yes: Yes = False, caller: Caller = FROM_PROFILE) -> None:
    """Put a new journal of the signer in the place of a lost one, from the first nonces that cannot have been signed.

    Until a window of the signer's caps has passed they count as spent; what was asked for before is not signed.

    Parameters
    ----------
    reason
        what happened to the journal before; it is signed and recorded.
    """
    caller.expect_key()
    state = caller.read("/v1/signer")
    if state["seeded"]:
        raise PreconditionFailed(f"the journal {state['journalId']} is in place: nothing is to be done")
    nonces = [(wallet_id, f"signs from nonce {nonce} on") for wallet_id, nonce in sorted(state["minNonces"].items())]
    caller.note(facts([("journal", state["journalId"]), *nonces]))
    caller.confirm("Nothing with lower nonces can be under way?", yes=yes)
    body = {"journalId": state["journalId"], "minNonces": state["minNonces"], "reason": reason}
    answer = caller.write("PUT", "/v1/signer/reseed", body)
    caller.tell(answer, said(answer, "the signer goes on"))
