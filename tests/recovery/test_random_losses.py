"""Payouts, copies and losses in any order, by seed: whatever is lost, everybody is paid exactly once."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from outlay.core.errors import Refused
from outlay.store import users
from tests import tools
from tests.actions.world import Actor
from tests.recovery.drill import FINAL_AFTER, Drill
from tests.recovery.test_restore import recipient

STEPS = 24


class Life(Drill):
    """An organization that loses things."""

    def __init__(self, folder: Path, seed: str) -> None:
        self.dice = random.Random(seed)
        super().__init__(folder, seed=self.dice.randrange(2**32))
        self.bot = self.service_account("payouts bot")
        self.bearers = [self.bot.claims]  #: every token the bot was given; an older copy knows an older one
        self.copies: list[str] = []
        self.run_rounds(1)  # the signer hears of them: what it has not heard of is lost with the database
        self.keep()

    def keep(self) -> None:
        self.copies.append(f"copy-{len(self.copies)}.db")
        self.copy(self.copies[-1])

    def ask(self) -> None:
        name = f"payout-{len(self.paid)}"
        by = self.dice.choice((self.bot, self.first))
        self.pay(by, self.paying, self.dice.choice((5, 50, 150)), to=recipient(name), external_id=name)

    def run_somehow(self) -> None:
        assert self.signer is not None
        self.signer.is_gone, self.chain.is_mute = self.dice.random() < 0.2, self.dice.random() < 0.2
        for _ in range(self.dice.randint(1, 4)):
            kind = self.dice.choice(("mine", "mine", "nothing", "empty"))
            seconds = self.dice.choice((1, 5, 35))
            self.run_rounds(1, seconds=seconds, mine=kind != "nothing", empty=kind == "empty")
        self.signer.is_gone = self.chain.is_mute = False

    def agree_somehow(self) -> None:
        held = [name for name in self.paid if self.state_named(name) == "held"]
        if held:
            self.vote_on(self.dice.choice(held), self.second)

    def lose(self) -> None:
        if self.dice.random() < 0.4:
            self.lose_database()
        else:
            self.put_back(self.dice.choice(self.copies[-3:]))
        self.come_back()

    def come_back(self) -> None:
        """Recover, log in, and post everything again."""
        self.recover()
        made = self.tokens.get(self.bot.user_id)
        if made is not None and made not in self.bearers:
            self.bearers.append(made)
        with self.unit() as unit:
            (known,) = (each for each in self.bearers if users.find_token(unit, each["jti"]) is not None)
        self.bot = replace(self.bot, claims=known)
        self.admin, self.first, self.second = (self.log_in(each) for each in (self.admin, self.first, self.second))
        actors: dict[str, Actor] = {each.user_id: each for each in (self.bot, self.first)}
        self.pay_all_again(actors)

    def live(self) -> None:
        for _ in range(STEPS):
            happening = self.dice.choice(
                (
                    self.ask,
                    self.ask,
                    self.ask,
                    self.run_somehow,
                    self.run_somehow,
                    self.agree_somehow,
                    self.keep,
                    self.lose,
                )
            )
            try:
                happening()
            except Refused as error:
                # What the older database did not know of yet may be refused for now, never paid twice.
                print(f"{happening.__name__}: {error.message}")
        self.come_back()
        for _ in range(len(self.paid)):
            self.agree_somehow()
        self.run_until(self.all_confirmed, most=150)
        self.run_rounds(2 * FINAL_AFTER)


@pytest.mark.parametrize("number", range(tools.examples(1)))
def test_everybody_is_paid_once(number: int, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    seed = f"{request.config.getoption('--hypothesis-seed')} {number}"
    print(f"seed {seed}")
    life = Life(tmp_path, seed)
    try:
        life.live()
        for name, each in life.paid.items():
            assert life.received(recipient(name)) == each["dollars"] * 10**6, name
        life.check_books()
        assert life.frozen() == []
    finally:
        life.close()
