"""Writes the page of the command line: every command, what it exits with, where the profile is."""

from collections.abc import Iterator

from cyclopts import App

from outlay.cli.commands import DEPLOYMENT, GROUPS, SERVER, app
from outlay.cli.output import EXIT_CODES

INTRO = """\
# Command line

`outlay --help` lists the groups, `outlay GROUP --help` their commands, `outlay GROUP COMMAND --help` every option.
Commands with `--dir` work on a deployment, on its own machine; all others are clients of the API, which sign with your
key and have no other way in.

## Log in

```sh
outlay login --url https://payouts.example.com --username treasury@example.com --key-file treasury.pem
```

writes a *profile*: `~/.config/outlay/profile.toml` (`$XDG_CONFIG_HOME`), or the file that `OUTLAY_PROFILE` or
`--profile` names, mode 0600. It holds the address, your username, the id of your credential and where key and token
lie; the token is in a file beside it. A login is good for eight hours: after that a command logs in again by itself,
with the key.

A program logs in with the token it was given, which nothing renews:

```sh
outlay login --profile bot.toml --url https://payouts.example.com --token-file bot.token --key-file bot.pem \\
    --credential=CREDENTIAL_ID
```

`--url`, `--token-file`, `--key-file` and `--credential` of any command go before what the profile says. What belongs
to a profile is sent to the server of the profile only: with the `--url` of another one, name token and key as well.
Passkeys live in browsers: who has only passkeys decides in the dashboard.

## What commands print

Text for people, in 80 columns where it can be; addresses, ids and amounts are whole at any width. Amounts have their
decimals and symbol, instants are UTC. Colours only on a terminal, and not with `NO_COLOR`. What is asked, waited for or
said beside the result goes to stderr. Commands that ask take `--yes`; where nobody can be asked they end with 2.

With `--json` a command prints exactly one JSON document on stdout, the answer of the server as it came, and nothing is
asked; commands that follow something print one document a line. An error is a document on stderr:

```json
{"error": {"code": "not_found", "message": "no such payout", "exitCode": 4}}
```

A stack trace is shown only with `OUTLAY_DEBUG=1`.

## Exit codes

| code | means |
| --- | --- |
"""

AFTER_CODES = """
**5 is neither done nor failed.** A payout asked for with the same `--external-id` again is the same payout: repeat
that command as it was. Of anything else look first. `outlay audit verify` and `outlay evidence verify` ask no server:
0 holds, 1 does not, 2 the file cannot be read, 3 (audit) it is whole and says itself that something is missing.

## Completion

`outlay --install-completion` writes the completion of bash, zsh or fish for your shell and says where.
"""


def command_page() -> str:
    """Return docs/reference/cli.md."""
    lines = [INTRO]
    lines += [f"| {code} | {means} |\n" for code, means in EXIT_CODES.items()]
    lines.append(AFTER_CODES)
    lines.append("\n## Commands\n\n### On the machine of a deployment\n\n| command | what |\n| --- | --- |\n")
    lines += [f"| `outlay {name}` | {what} |\n" for name, what in DEPLOYMENT.items()]
    lines.append("\n### Of a server\n\n| command | what |\n| --- | --- |\n")
    lines += [f"| `outlay {name}` | {what} |\n" for name, (_, what) in SERVER.items()]
    for group, what in GROUPS.items():
        lines.append(f"\n### outlay {group}\n\n{what}\n\n| command | what |\n| --- | --- |\n")
        lines += [f"| `outlay {group} {name}` | {said} |\n" for name, said in commands_of(app[group])]
    return "".join(lines)


def commands_of(group: App) -> Iterator[tuple[str, str]]:
    """Yield the name of each command of a group and the first line of its help."""
    for name in sorted(group):
        if not name.startswith("-"):
            first = group[name].help.split("\n\n")[0]
            yield name, " ".join(first.split()).replace("|", "\\|")
