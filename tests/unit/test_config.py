"""The configuration file: a typo loosens nothing, and every refusal names the setting."""

from decimal import Decimal
from pathlib import Path

import pytest

from outlay.config import Config, load, parse
from outlay.core.errors import InvalidInput
from outlay.evidence.canonical import digest

TOKEN = "0x" + "ab" * 20
NETWORK = """
[networks.EthereumSepolia]
chain_id = 31337
rpc_urls = ["http://127.0.0.1:8545"]
finality = { blocks = 1 }
native = { symbol = "ETH", decimals = 18 }
fee_cap = "50000000000000000"
"""
ASSET = f"""
[[assets]]
network = "EthereumSepolia"
kind = "Erc20"
contract = "{TOKEN}"
symbol = "USDC"
decimals = 6
"""
REST = """
[server]
host = "0.0.0.0"
port = 9000
public_url = "https://payouts.example.com:8443"

[policies]
default = "block"

[prices.static]
ETH = "3000"
USDC = "1.0"

[webhooks]
allow_private_addresses = true
retry_schedule_s = [1, 2]

[api]
require_external_id = false

[signer]
passphrase_file = "secrets/passphrase"

[sending]
ready_timeout_s = 60
in_flight_max = 4
poll_s = 1
"""


def refused(text: str) -> str:
    """Return the field that the refusal of a configuration names."""
    with pytest.raises(InvalidInput) as error:
        parse(text)
    assert error.value.field is not None
    return error.value.field


def test_an_empty_file_is_a_safe_configuration() -> None:
    config = parse("")
    assert config == Config()
    assert config.api.require_external_id
    assert not config.webhooks.allow_private_addresses
    assert config.server.host == "127.0.0.1"
    assert config.networks == {} and config.assets == () and config.prices == {}


def test_every_setting_is_read() -> None:
    config = parse(NETWORK + ASSET + REST)
    network = config.networks["EthereumSepolia"]
    assert (network.name, network.chain_id, network.fee_cap) == ("EthereumSepolia", 31337, 5 * 10**16)
    assert (network.finality.blocks, network.finality.tag) == (1, None)
    (token,) = config.assets
    assert (token.contract, token.symbol, token.decimals, token.fee_cap) == (TOKEN, "USDC", 6, None)
    assert (config.server.host, config.server.port, config.policies.default) == ("0.0.0.0", 9000, "block")
    assert config.prices == {"ETH": Decimal(3000), "USDC": Decimal(1)}
    assert config.webhooks.allow_private_addresses and config.webhooks.retry_schedule_s == (1, 2)
    assert not config.api.require_external_id
    assert config.signer.passphrase_file == "secrets/passphrase"
    assert (config.sending.ready_timeout_s, config.sending.in_flight_max, config.sending.poll_s) == (60, 4, 1)


def test_origin_and_relying_party_follow_from_the_public_url_unless_given() -> None:
    server = parse('[server]\npublic_url = "https://payouts.example.com:8443"').server
    assert (server.relying_party, server.origins) == ("payouts.example.com", ("https://payouts.example.com:8443",))
    given = parse('[server]\nrp_id = "example.com"\nallowed_origins = ["https://a.example.com"]').server
    assert (given.relying_party, given.origins) == ("example.com", ("https://a.example.com",))


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("nonsense = 1", "nonsense"),
        ("[polices]\ndefault = 'block'", "polices"),
        ("[api]\nrequire_externalid = false", "api.require_externalid"),
        ("[policies]\ndefault = 'deny'", "policies.default"),
        ("[server]\nport = '8000'", "server.port"),
        ("[server]\nport = true", "server.port"),
        ("[server]\nport = 8000.0", "server.port"),
        ("[server]\nport = 70000", "server.port"),
        ("[server]\nport = -1", "server.port"),
        ("[server]\nallowed_origins = 'http://x'", "server.allowed_origins"),
        ("[api]\nrequire_external_id = 'false'", "api.require_external_id"),
        ("[api]\nrequire_external_id = 0", "api.require_external_id"),
        ("[webhooks]\nretry_schedule_s = [1, 'two']", "webhooks.retry_schedule_s"),
        ("[webhooks]\nretry_schedule_s = [true]", "webhooks.retry_schedule_s"),
        ("[webhooks]\nretry_schedule_s = [-1]", "webhooks.retry_schedule_s"),
        ("[webhooks]\nretry_schedule_s = [60, 60]", "webhooks.retry_schedule_s"),
        ("[sending]\nin_flight_max = 0", "sending.in_flight_max"),
        ("[sending]\nin_flight_max = 100001", "sending.in_flight_max"),
        ("[sending]\npoll_s = 0", "sending"),
        ("[sending]\npoll_s = nan", "sending"),
        ("[sending]\npoll_s = inf", "sending"),
        ("[sending]\nready_timeout_s = 0", "sending"),
        ("[prices.static]\nETH = 3000", "prices.static.ETH"),
        ("[prices.static]\nETH = '0'", "prices.static.ETH"),
        ("[prices.static]\nETH = '-1'", "prices.static.ETH"),
        ("[prices.static]\nETH = '1e3'", "prices.static.ETH"),
        ("[prices.live]\nETH = '1'", "prices.live.ETH"),
        ("[prices.other]\nETH = '1'", "prices.other"),
        ("networks = 1", "networks"),
        ("[networks]\nEthereumSepolia = 1", "networks.EthereumSepolia"),
        ("assets = 1", "assets"),
        ("assets = [1]", "assets[0]"),
        ("server = []", "server"),
        ("this is not TOML", "configuration"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(text: str, field: str) -> None:
    assert refused(text) == field


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("chain_id = 31337", "", "chain_id"),
        ("chain_id = 31337", "chain_id = '31337'", "chain_id"),
        ("chain_id = 31337", "chain_id = 0", ""),
        ("chain_id = 31337", f"chain_id = {2**53}", ""),
        ('["http://127.0.0.1:8545"]', "[]", ""),
        ('["http://127.0.0.1:8545"]', "[1]", "rpc_urls"),
        ("{ blocks = 1 }", "{ blocks = 0 }", "finality.blocks"),
        ("{ blocks = 1 }", "{ blocks = true }", "finality.blocks"),
        ("{ blocks = 1 }", "{ tag = 'latest' }", "finality.tag"),
        ("{ blocks = 1 }", "{ blocks = 1, tag = 'safe' }", "finality"),
        ("{ blocks = 1 }", "{}", "finality"),
        ("finality = { blocks = 1 }", "", "finality"),
        ("decimals = 18", "decimals = 78", "native.decimals"),
        ("decimals = 18", "decimals = -1", "native.decimals"),
        ('symbol = "ETH", ', "", "native.symbol"),
        ('"50000000000000000"', "50000000000000000", "fee_cap"),
        ('"50000000000000000"', '"0"', "fee_cap"),
        ('"50000000000000000"', '"0x10"', "fee_cap"),
        ('fee_cap = "50000000000000000"', "", "fee_cap"),
        ("chain_id = 31337", 'chain_id = 31337\nname = "Base"', "name"),
    ],
)
def test_a_wrong_network_is_refused_by_name(old: str, new: str, field: str) -> None:
    assert old in NETWORK
    assert refused(NETWORK.replace(old, new)) == ".".join(filter(None, ["networks.EthereumSepolia", field]))


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('network = "EthereumSepolia"', 'network = "Ethereum"', "network"),
        ('kind = "Erc20"', 'kind = "Erc721"', "kind"),
        (TOKEN, "0x12", "contract"),
        (TOKEN, "0x" + "aB" * 20, "contract"),
        ("decimals = 6", "decimals = 78", "decimals"),
        ("decimals = 6", "decimals = 6.0", "decimals"),
        ("decimals = 6", "", "decimals"),
        ('symbol = "USDC"', "", "symbol"),
        ("decimals = 6", "decimals = 6\nfee_cap = 5", "fee_cap"),
        ("decimals = 6", "decimals = 6\ncolour = 5", "colour"),
    ],
)
def test_a_wrong_asset_is_refused_by_name(old: str, new: str, field: str) -> None:
    assert old in ASSET
    assert refused(NETWORK + ASSET.replace(old, new)) == f"assets[0].{field}"


def test_a_token_cannot_be_listed_twice_in_any_spelling() -> None:
    upper = ASSET.replace(TOKEN, "0x" + TOKEN[2:].upper())
    assert refused(NETWORK + ASSET + upper) == "assets[1].contract"


def test_a_token_may_have_a_fee_cap_of_its_own() -> None:
    config = parse(NETWORK + ASSET.replace("decimals = 6", 'decimals = 6\nfee_cap = "7"'))
    assert config.fee_cap("EthereumSepolia", TOKEN) == 7
    assert config.fee_cap("EthereumSepolia", "native") == 5 * 10**16
    assert parse(NETWORK + ASSET).fee_cap("EthereumSepolia", TOKEN) == 5 * 10**16


def test_only_listed_assets_are_found() -> None:
    config = parse(NETWORK + ASSET)
    native, token = config.assets_of("EthereumSepolia")
    assert (native.kind, native.key, native.decimals) == ("Native", "native", 18)
    assert (token.kind, token.key, token.contract) == ("Erc20", TOKEN, TOKEN)
    assert config.find_asset("EthereumSepolia", TOKEN) == token
    assert config.find_asset("EthereumSepolia", "0x" + "cd" * 20) is None
    assert config.find_asset("Base", "native") is None and config.assets_of("Base") == ()


def money(text: str) -> str:
    return digest(parse(text).money_settings())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("chain_id = 31337", "chain_id = 1337"),
        ("{ blocks = 1 }", "{ blocks = 2 }"),
        ("{ blocks = 1 }", "{ tag = 'safe' }"),
        ('"50000000000000000"', '"50000000000000001"'),
        ("decimals = 18", "decimals = 17"),
        ('symbol = "ETH"', 'symbol = "ETC"'),
        (TOKEN, "0x" + "cd" * 20),
        ("decimals = 6", "decimals = 8"),
        ("decimals = 6", 'decimals = 6\nfee_cap = "7"'),
        ('symbol = "USDC"', 'symbol = "USDT"'),
        ('default = "block"', 'default = "allow"'),
        ('USDC = "1.0"', 'USDC = "0.9"'),
        ('USDC = "1.0"', ""),
        (ASSET, ""),
    ],
)
def test_everything_that_decides_about_money_is_in_the_signed_settings(old: str, new: str) -> None:
    text = NETWORK + ASSET + REST
    assert old in text
    assert money(text.replace(old, new)) != money(text)


def test_nothing_else_is_in_the_signed_settings() -> None:
    text = NETWORK + ASSET + REST
    other = text.replace("8545", "8546").replace("port = 9000", "port = 9001").replace("poll_s = 1", "poll_s = 2")
    assert other != text
    assert money(other) == money(text)


def test_the_order_of_assets_and_prices_does_not_matter() -> None:
    second = ASSET.replace(TOKEN, "0x" + "cd" * 20)
    assert money(NETWORK + ASSET + second) == money(NETWORK + second + ASSET)
    prices = '[prices.static]\nETH = "1"\nUSDC = "2"\n'
    assert money(prices) == money('[prices.static]\nUSDC = "2"\nETH = "1"\n')


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as error:
        load(tmp_path / "missing.toml")
    assert error.value.field == str(tmp_path / "missing.toml")
    path = tmp_path / "outlay.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInput) as error:
        load(path)
    assert error.value.field == str(path)
    path.write_text(NETWORK)
    assert load(path) == parse(NETWORK)


# --- who is believed, and the signer's own limits ------------------------------------------------------------------


def with_network(
    extra: str, *, chain_id: int = 5, urls: str = '["http://127.0.0.1:1", "http://127.0.0.1:2"]'
) -> Config:
    return parse(
        f"""
[networks.EthereumSepolia]
chain_id = {chain_id}
rpc_urls = {urls}
finality = {{ blocks = 1 }}
native = {{ symbol = "ETH", decimals = 18 }}
fee_cap = "7"
{extra}
"""
    )


ONE = '["http://127.0.0.1:1"]'


def test_two_endpoints_have_to_agree_unless_one_is_believed_in_writing() -> None:
    assert with_network("").networks["EthereumSepolia"].needs_agreement
    assert with_network('trust = "quorum"').networks["EthereumSepolia"].needs_agreement
    assert not with_network('trust = "single"').networks["EthereumSepolia"].needs_agreement
    assert not with_network('trust = "single"', urls=ONE).networks["EthereumSepolia"].needs_agreement
    assert not with_network("", urls=ONE, chain_id=31337).networks["EthereumSepolia"].needs_agreement


@pytest.mark.parametrize(
    ("extra", "urls", "field"),
    [
        ("", ONE, "trust"),
        ('trust = "quorum"', ONE, "trust"),
        ('trust = "maybe"', ONE, "trust"),
        ("", '["http://127.0.0.1:1", "http://127.0.0.1:1"]', "rpc_urls"),
        ('fee_model = "auction"', ONE, "trust"),
        ('trust = "single"\nfee_model = "auction"', ONE, "fee_model"),
        ('trust = "single"\ndata_fee = "some"', ONE, "data_fee"),
    ],
)
def test_what_would_believe_one_endpoint_silently_is_refused(extra: str, urls: str, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        with_network(extra, urls=urls)
    assert refused.value.field == f"networks.EthereumSepolia.{field}"


def test_the_signers_limits_are_read_as_base_units() -> None:
    token = "0x" + "AB" * 20
    config = parse(
        f"""
[signer]
request_max_age_s = 60

[[signer.caps]]
network = "EthereumSepolia"
per_payout = "5"
total = "7"
count = 3
window_s = 3600

[[signer.caps]]
network = "EthereumSepolia"
asset = "{token}"
per_recipient = "9"

[[signer.caps]]
network = "EthereumSepolia"
asset = "fees"
total = "11"
"""
    )
    coin, dollars, fees = config.signer.caps
    assert (coin.asset, coin.per_payout, coin.total, coin.count, coin.window_s) == ("native", 5, 7, 3, 3600)
    assert (dollars.asset, dollars.per_recipient, dollars.total) == (token.lower(), 9, None)
    assert (fees.asset, fees.total) == ("fees", 11)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('backend = "paper"', "signer.backend"),
        ("request_max_age_s = 0", "signer.request_max_age_s"),
        ("caps = 5", "signer.caps"),
        ('[[signer.caps]]\nasset = "native"', "signer.caps[0].network"),
        ('[[signer.caps]]\nnetwork = "N"\nper_payout = "1.5"', "signer.caps[0].per_payout"),
        ('[[signer.caps]]\nnetwork = "N"\nasset = "USDC"', "signer.caps[0].asset"),
        ('[[signer.caps]]\nnetwork = "N"\nwindow_s = 0', "signer.caps[0]"),
        ('[[signer.caps]]\nnetwork = "N"\nper_day = "1"', "signer.caps[0].per_day"),
    ],
)
def test_a_wrong_limit_of_the_signer_is_refused(text: str, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(f"[signer]\n{text}\n")
    assert refused.value.field == field


@pytest.mark.parametrize("name", ["bump_after_s", "bump_every_s", "void_after_s"])
def test_patience_is_positive(name: str) -> None:
    with pytest.raises(InvalidInput):
        parse(f"[sending]\n{name} = 0\n")


@pytest.mark.parametrize("url", ["https://pay.example/outlay", "pay.example", "https://pay.example/?a=b", "ftp://x"])
def test_the_public_address_has_no_path(url: str) -> None:
    """Signatures cover paths: what a proxy cuts off would be missing for whoever checks them later."""
    with pytest.raises(InvalidInput) as caught:
        parse(f'[server]\npublic_url = "{url}"\n')
    assert caught.value.field == "server.public_url"


def test_an_address_for_approving_is_an_origin_for_decisions_alone() -> None:
    text = '[server]\npublic_url = "https://pay.example"\n'
    server = parse(text).server
    assert server.origins_for(decides=True) == server.origins == ("https://pay.example",)
    assert server.decided_at == "https://pay.example"
    server = parse(text + 'approval_url = "https://approve.pay.example:8443/"\n').server
    assert server.origins == ("https://pay.example", "https://approve.pay.example:8443")
    assert server.origins_for(decides=True) == ("https://approve.pay.example:8443",)
    assert server.origins_for(decides=False) == server.origins
    assert server.decided_at == "https://approve.pay.example:8443"


@pytest.mark.parametrize(
    "url",
    [
        "https://pay.example",
        "https://pay.example/",
        "http://approve.pay.example",
        "https://pay.example:443",
        "https://approve.pay.example:443",
        "https://approve.pay.example/here",
        "https://approve.pay.example?x",
        "https://somebody@approve.pay.example",
        "https://approvepay.example",
        "https://evil.example",
        "https://Approve.pay.example",
        "ftp://approve.pay.example",
        "approve.pay.example",
    ],
)
def test_an_address_for_approving_that_could_not_work_or_protects_nothing(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(f'[server]\npublic_url = "https://pay.example"\napproval_url = "{url}"\n')
    assert caught.value.field == "server.approval_url"
