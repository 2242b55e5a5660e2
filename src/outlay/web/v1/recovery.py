"""Recovery of people who lost their keys."""

from typing import Any

from litestar import Controller, post

from outlay.actions import codes
from outlay.core.errors import InvalidInput
from outlay.web.body import StrictRequest
from outlay.web.gate import Gate


class RecoveryController(Controller):
    """``/v1/users``."""

    path = "/v1/users"
    tags = ("Users",)

    @post("/{user_id:str}/recovery", status_code=200, summary="Recover a person who lost their keys")
    async def recover(self, request: StrictRequest, user_id: str, gate: Gate) -> dict[str, Any]:
        """Withdraw all keys of a person for good and give a one-time code for a new one, which is told once.

        What is registered with it counts once somebody vouched for it: ``PUT /auth/users/{userId}/activate``.
        """
        reason = _read_reason(await request.payload())
        # It ends what the person has, and lets them join anew.
        return await gate.write(
            request,
            ("Auth:Users:Deactivate", "Auth:Users:Create"),
            lambda act: codes.recover(act, user_id, reason=reason),
        )


def _read_reason(payload: dict[str, Any]) -> str | None:
    """Return why somebody is recovered; whoever recovers them need not say it."""
    for name, value in payload.items():
        if name != "reason" or not isinstance(value, str):
            raise InvalidInput("this call takes no body but a reason", field=name)
    return payload.get("reason")
