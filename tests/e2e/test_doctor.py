"""``outlay doctor`` compares what is signed about a token with what its contract says."""

import asyncio
from dataclasses import replace

from outlay.cli import doctor
from outlay.config import load
from outlay.layout import Layout
from tests.world import World

NOBODY = "0x" + "00" * 19 + "01"


def test_decimals_that_are_not_the_contracts_are_wrong(world: World) -> None:
    config = load(Layout(world.deployment.directory).config)
    (token,) = config.assets
    network = config.networks[token.network]
    tokens = [token, replace(token, decimals=18), replace(token, contract=NOBODY)]
    answers = asyncio.run(doctor._network(network, tokens))
    assert [level for level, _ in answers] == [doctor.GOOD, doctor.GOOD, doctor.WRONG, doctor.UNWISE]
    assert answers[2][1].endswith("the contract counts 6 decimals, the configuration says 18")
