"""What nodes show of the chain: late, wrong, split, reorganised, stalled. Only what is final and agreed on decides."""

from collections.abc import Callable
from typing import Any

import pytest

from outlay.chains.fake import Manner, Mood
from outlay.core.errors import PreconditionFailed
from tests.fakes import Payer
from tests.scenarios.stage import RECEIPT, SEND, Stage

OpenStage = Callable[..., Stage]


def nothing(_params: Any, _honest: Any) -> None:
    """Lie that there is nothing."""


def changed(**members: Any) -> Callable[[Any, Any], Any]:
    """Lie about members of an object."""
    return lambda _params, honest: honest and {**honest, **members}


# Nodes that lag, lie and split


def test_a_missing_receipt_of_a_mined_transaction_is_no_failure(open_stage: OpenStage) -> None:
    """One provider lags and answers null: the payout was called failed elsewhere, and nobody was told."""
    stage = open_stage(nodes=2)
    paid = stage.sent()
    stage.network.mine(3)
    with stage.mood(Mood(lies={RECEIPT: nothing})):
        stage.run(6)
        assert stage.state(paid) == "broadcast"
    with stage.mood(Mood(), Mood(lies={RECEIPT: nothing})):
        stage.run(6)
        assert stage.state(paid) == "broadcast"
    stage.run()
    assert (stage.state(paid), stage.got(paid)) == ("confirmed", 7)


def test_a_node_behind_the_others_neither_decides_nor_stops_anything(open_stage: OpenStage) -> None:
    stage = open_stage(nodes=3)
    stage.mine(8)
    with stage.mood(Mood(lag=6)):
        paid = stage.sent()
        stage.mine(8)
        assert (stage.state(paid), stage.got(paid)) == ("confirmed", 7)
        again = stage.sent()
        assert stage.attempts(again)[0].nonce == 1
        stage.mine(8)
        assert stage.state(again) == "confirmed"
    assert stage.frozen() is None


def test_a_receipt_that_one_node_made_up_confirms_nothing(open_stage: OpenStage) -> None:
    stage = open_stage(nodes=2)
    paid = stage.sent()
    tx_hash = stage.attempts(paid)[0].hash
    stage.mine(4, leave={tx_hash})
    head = stage.network.head

    def made_up(_params: Any, _honest: Any) -> Any:
        return {
            "transactionHash": tx_hash,
            "blockNumber": hex(head.number - 3),
            "blockHash": stage.network.branches["main"].blocks[head.number - 3].hash,
            "status": "0x1",
            "gasUsed": "0x5208",
            "effectiveGasPrice": "0x1",
            "logs": [],
        }

    with stage.mood(Mood(lies={RECEIPT: made_up})):
        stage.run(6)
        assert stage.state(paid) == "broadcast"
    assert stage.got(paid) == 0
    assert stage.frozen() is None
    stage.run(3)
    stage.mine(4)
    assert (stage.state(paid), stage.got(paid)) == ("confirmed", 7)


def test_a_revert_that_one_node_made_up_fails_nothing(open_stage: OpenStage) -> None:
    stage = open_stage(nodes=2)
    paid = stage.sent()
    with stage.mood(Mood(), Mood(lies={RECEIPT: changed(status="0x0", logs=[])})):
        stage.mine(5)
        assert stage.state(paid) in ("broadcast", "mined")
    stage.run()
    assert (stage.state(paid), stage.got(paid)) == ("confirmed", 7)


def test_a_balance_or_count_that_one_node_made_up_changes_no_ledger_and_no_nonce(open_stage: OpenStage) -> None:
    """A counter that is raised by whatever a node says drifts away and never comes back."""
    stage = open_stage(nodes=3)
    before = stage.held("native")
    lies = {
        "eth_getBalance": lambda _params, _honest: hex(10**24),
        "eth_getTransactionCount": lambda _params, honest: hex(int(honest, 16) + 633),
    }
    with stage.mood(Mood(lies=lies)):
        stage.mine(4)
        paid = stage.pay()
        stage.mine(4)
        assert (stage.frozen(), stage.held("native")["spendable"] <= before["spendable"]) == (None, True)
        assert [each.nonce for each in stage.attempts(paid)] in ([], [0])
    stage.run(3)
    stage.mine(4)
    assert (stage.attempts(paid)[0].nonce, stage.state(paid)) == (0, "confirmed")


def test_a_node_of_another_chain_is_not_listened_to(open_stage: OpenStage) -> None:
    stage = open_stage(nodes=3)
    with stage.mood(Mood(chain_id=1)):
        stage.node.asked.clear()
        stage.start()
        paid = stage.sent()
        stage.mine(4)
    assert stage.state(paid) == "confirmed"
    assert SEND not in stage.node.asked


def test_while_nodes_follow_two_forks_nothing_ends(open_stage: OpenStage) -> None:
    stage = open_stage(nodes=2)
    paid = stage.sent()
    stage.network.split(stage.network.nodes[1])
    stage.network.mine(6)
    stage.network.mine(6, branch="fork", leave={stage.attempts(paid)[0].hash})
    stage.run(6)
    assert stage.state(paid) == "broadcast"
    assert stage.network_frozen() is None
    stage.network.heal()
    stage.run(4)
    stage.mine(2)
    assert (stage.state(paid), stage.got(paid)) == ("confirmed", 7)


def test_an_endpoint_that_answers_from_different_nodes_is_never_believed_backwards(stage: Stage) -> None:
    paid = stage.sent()
    stage.mine(4)
    assert stage.state(paid) == "confirmed"
    again = stage.sent()
    for lag in (3, 0, 2, 0, 4, 1):
        with stage.mood(Mood(lag=lag)):
            stage.mine(1)
    stage.run(3)
    assert (stage.state(paid), stage.state(again), stage.got(again)) == ("confirmed", "confirmed", 7)
    assert (stage.network_frozen(), stage.frozen()) == (None, None)


# Reorganisations


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_transaction_whose_block_is_gone_is_sent_again_and_pays_once(stage: Stage, comes_back: bool) -> None:
    paid = stage.sent()
    raw = stage.raw(paid)
    stage.mine()
    assert stage.state(paid) == "mined"
    stage.network.reorganise(1, lost=() if comes_back else None)
    stage.run()
    assert stage.state(paid) == "broadcast"
    assert [each.raw for each in stage.node.pool] == [raw]
    stage.mine(3)
    assert stage.history(paid) == ["allowed", "assigned", "signed", "sent", "mined", "reorged", "mined", "paid"]
    assert (stage.raw(paid), stage.got(paid)) == (raw, 7)


def test_a_raise_that_is_mined_instead_after_a_reorganisation_is_the_payment(stage: Stage) -> None:
    paid = stage.sent()
    stage.speed_up(paid)
    stage.run()
    first, second = stage.attempts(paid)
    stage.mine()
    assert stage.row(paid).tx_hash == second.hash
    stage.network.reorganise(1, lost=None, instead=[stage.raw(paid, 0)])
    stage.run()
    stage.mine(3)
    assert (stage.state(paid), stage.row(paid).tx_hash, stage.got(paid)) == ("confirmed", first.hash, 7)


def test_a_revert_that_is_not_final_may_still_become_a_payment(stage: Stage) -> None:
    """Whoever retries before the revert is final pays twice when a reorganisation lets the first succeed."""
    paid = stage.sent()
    stage.token.paused = True
    stage.mine(2)
    assert (stage.state(paid), stage.got(paid)) == ("mined", 0)
    stage.token.paused = False
    stage.network.reorganise(2, lost=())
    stage.run()
    assert stage.state(paid) in ("broadcast", "mined")
    stage.mine(4)
    assert (stage.state(paid), len(stage.attempts(paid)), stage.got(paid)) == ("confirmed", 1, 7)


def test_a_final_revert_ends_the_payout_unpaid(stage: Stage) -> None:
    paid = stage.sent()
    stage.token.manner = Manner.REVERTS
    stage.mine(3)
    assert (stage.state(paid), stage.got(paid), stage.frozen()) == ("failed", 0, None)
    stage.token.manner = Manner.NORMAL
    again = stage.sent()
    stage.mine(3)
    assert stage.got(again) == 7


def test_a_reorganisation_deeper_than_the_rule_stops_the_network(stage: Stage) -> None:
    paid = stage.sent()
    stage.mine(4)
    assert stage.state(paid) == "confirmed"
    stage.network.reorganise(5, lost=None, blocks=6)
    stage.run(3)
    assert "went back further than the finality rule allows" in str(stage.network_frozen())
    with pytest.raises(PreconditionFailed, match="frozen"):
        stage.pay()
    assert list(stage.node.pool) == [], "nothing is sent on a chain that takes back what is final"
    assert (stage.state(paid), stage.got(paid)) == ("confirmed", 0), "that is what a person has to look at"
    stage.was_taken_back = True


def test_while_finality_stalls_nothing_ends_and_nothing_fails(open_stage: OpenStage) -> None:
    stage = open_stage(finality='tag = "finalized"')
    paid = stage.sent()
    stage.network.finality_stalls = True
    stage.mine(30)
    stage.run(20, every_s=3600)
    assert stage.state(paid) == "mined"
    stage.network.finality_stalls = False
    stage.mine(12)
    assert (stage.state(paid), stage.got(paid)) == ("confirmed", 7)


# Wallets


def test_code_at_a_wallets_address_stops_it(stage: Stage) -> None:
    paid = stage.sent()
    stage.network.deploy(stage.address(), bytes.fromhex("ef0100") + bytes(20))
    stage.mine(4)
    assert "has code" in str(stage.frozen())
    stage.network.deploy(stage.address(), b"")
    assert stage.got(paid) in (0, 7)


def test_dust_is_an_inflow_and_stops_nothing(stage: Stage) -> None:
    before = stage.held("native")
    stage.network.give(stage.address(), 1)
    stage.mine(4)
    assert (stage.held("native")["spendable"], stage.frozen()) == (before["spendable"] + 1, None)


def test_somebody_elses_transactions_are_nobodys_business(stage: Stage) -> None:
    stranger = Payer("stranger")
    stage.network.give(stranger.address, 10**18)
    stage.mine(4)
    stage.node.offer(stage.network.read(stranger.sign(0, to=stage.address())))
    paid = stage.sent()
    stage.mine(4)
    assert (stage.state(paid), stage.frozen()) == ("confirmed", None)
