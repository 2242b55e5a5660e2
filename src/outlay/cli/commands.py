"""Every command of ``outlay``, by name. What runs it is loaded when it is called: help and errors come at once."""

from typing import Final

from cyclopts import App, Group

from outlay import __version__

LOCAL: Final = Group("A deployment, on its own machine", sort_key=1)
OPTIONS: Final = Group("Options", sort_key=3)
REMOTE: Final = Group("A server, from anywhere (log in first)", sort_key=2)

app = App(
    name="outlay",
    version=__version__,
    help="Self-hosted, policy-gated, automated crypto payouts.",
    help_format="plaintext",
    help_flags=("--help", "-h"),
    version_flags=("--version",),
)

DEPLOYMENT: Final = {
    "init": "Create a deployment: keys, database, genesis record, first policies, first admin.",
    "serve": "Run everything: API and engine in one process, the signer in a child of it.",
    "api": "Run the API alone, beside outlay worker and outlay signer on the same directory.",
    "worker": "Run the engine alone: it sends payouts and delivers webhooks. Several may run.",
    "signer": "Run the signer alone: it holds the keys, listens on a Unix socket, needs no network.",
    "migrate": "Bring the database to this version's schema.",
    "doctor": "Say what is wrong or unwise with a deployment; exits 1 if payouts cannot or should not flow.",
    "freeze": "Stop signing at once, in every process; only a signed record lets it go on.",
    "demo": "Show the whole path on a local chain: payouts that flow, wait, are approved, denied, blocked.",
}
"""Command -> what it does; ``outlay.cli.deployment`` holds them."""

SERVER: Final = {
    "login": ("login:login", "Log in to a server, and remember it for every other command."),
    "explain": ("explain:explain", "Say why a payout went, waits or was refused."),
    "unfreeze": ("freezes:unfreeze", "Let go what was stopped, after you have looked at why."),
}
"""Command -> where it is, what it does."""

GROUPS: Final = {
    "approvals": "What people are asked: list, show in full, approve, deny.",
    "assets": "What can be paid.",
    "audit": "The audit log, for auditors.",
    "batches": "Payouts from a file, approved as one.",
    "events": "What happened, as it happens.",
    "evidence": "Proofs of payouts, for auditors.",
    "freezes": "What is stopped, and why.",
    "keys": "Key pairs, made here.",
    "mandates": "Standing orders: refills, recurring payouts.",
    "messages": "Messages to people.",
    "passkeys": "Keys of people who use the dashboard.",
    "payouts": "Ask for payouts, look at them, stop them.",
    "permissions": "Who may do what.",
    "policies": "What goes by itself, what waits, what is blocked.",
    "pools": "Wallets that pay together.",
    "schedules": "Payouts that recur.",
    "service-accounts": "Programs that ask for payouts.",
    "settings": "The settings that decide about money.",
    "signers": "The signer's journal.",
    "users": "People: invite, register, vouch for, switch off.",
    "wallets": "Hot wallets.",
    "webhooks": "Where programs are told what happened.",
}
"""Group -> what it is about; the module of that name holds an ``App`` of that name."""

for _name, _help in DEPLOYMENT.items():
    app.command(f"outlay.cli.deployment:{_name}", name=_name, help=_help, group=LOCAL)
for _name, (_place, _help) in SERVER.items():
    app.command(f"outlay.cli.{_place}", name=_name, help=_help, group=REMOTE)
for _name, _help in GROUPS.items():
    _module = _name.replace("-", "_")
    app.command(f"outlay.cli.{_module}:{_module}", name=_name, help=_help, group=REMOTE)
app["--help"].group = app["--version"].group = OPTIONS
app.register_install_completion_command(
    group=OPTIONS, help="Install completion of commands for your shell (bash, zsh, fish)."
)
