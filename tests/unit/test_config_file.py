import re
from pathlib import Path

import msgspec
import pytest

from engine.config import (
    ClusterConfig,
    initial_settings,
    load_config,
    parse_config,
    replica_config,
    settings_differences,
    slot_ranges,
    split_address,
)
from engine.core.settings import Ledger, group_of_slots
from engine.exit_codes import EngineStopped, ExitCode

SAMPLE = Path(__file__).parents[2] / "cluster.yml"
TEXT = SAMPLE.read_text()


def parse(text: str) -> ClusterConfig:
    return parse_config(text.encode(), folder=Path("/base"))


def refused(text: str) -> str:
    with pytest.raises(EngineStopped) as stopped:
        parse(text)
    assert stopped.value.code is ExitCode.CONFIG_INVALID
    assert "\n" not in str(stopped.value)
    return str(stopped.value)


def test_the_sample_file_is_valid() -> None:
    config = load_config(SAMPLE)
    assert config.groups[0].replicas[0].folder == str(SAMPLE.parent / "data/group-0/a")
    assert set(group_of_slots(initial_settings(config))) == {0, 1}


@pytest.mark.parametrize("key", ["cluster_id", "hash_seed", "ledgers", "groups"])
def test_a_missing_key_is_named(key: str) -> None:
    tree = msgspec.yaml.decode(TEXT)
    del tree[key]
    assert f"missing required field `{key}`" in refused(msgspec.yaml.encode(tree).decode())


def test_a_missing_key_of_a_replica_is_named_with_its_place() -> None:
    message = refused(TEXT.replace(', grpc: "127.0.0.1:7201"', ""))
    assert "`grpc`" in message
    assert "groups" in message


def test_security_that_no_port_would_give_is_refused_and_not_ignored() -> None:
    asked = "tls: {certificate: node.pem, key: node.key, authority: authority.pem}"
    assert "tls is not spoken by this release; take the section out" in refused(f"{TEXT}\n{asked}\n")


def test_the_file_for_three_machines_is_valid() -> None:
    page = (SAMPLE.parent / "docs" / "operating" / "three-machines.md").read_text()
    (text,) = re.findall(r"```yaml\n(.+?)```", page, re.DOTALL)
    config = parse(text)
    assert [replica.id for replica in config.groups[0].replicas] == ["a", "b", "c"]
    assert len(config.routers) == 2


def test_an_unknown_key_is_named() -> None:
    assert "`segment_byte`" in refused(TEXT.replace("segment_bytes", "segment_byte"))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("cluster_id: 6f", "cluster_id: zz", "cluster_id"),
        ("hash_seed: 1", "hash_seed: -1", "hash_seed"),
        ("ledger: 2", "ledger: 1", "ledger 1 stands there 2 times"),
        ("code: USD", "code: EUR", "code EUR"),
        ("scale: 2", "scale: 39", "scale"),
        ("group: 0", "group: 1", "numbered 0"),
        ("7201", "7101", "address 127.0.0.1:7101 stands there 2 times"),
        ("127.0.0.1:7201", "127.0.0.1", "is not host:port"),
        ("queue_age_ms_max: 2000", "queue_age_ms_max: 0", "queue_age_ms_max"),
        ("- group: 0", "- group: 0\n    slots: [[0, 4000]]", "slot 4001"),
        ("- group: 0", "- group: 0\n    slots: [[0, 4095], [7, 7]]", "slot 7"),
        ("ledgers:", "ledgers: [", "ledgers"),
    ],
)
def test_a_wrong_value_is_named(old: str, new: str, told: str) -> None:
    assert old in TEXT
    message = refused(TEXT.replace(old, new))
    assert told in message or old == "ledgers:"


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(EngineStopped, match="cannot be read") as stopped:
        load_config(tmp_path / "none.yml")
    assert stopped.value.code is ExitCode.CONFIG_INVALID


def test_groups_without_slots_share_them_equally() -> None:
    replicas = "replicas: [{id: b, peer: 'h:1', grpc: 'h:2', folder: x}]"
    config = parse(TEXT.replace("\n# Routers", f"\n  - {{group: 2, {replicas}}}\n# Routers"))
    shares = [(part.group, part.first, part.last) for part in slot_ranges(config.groups)]
    assert shares == [(0, 0, 1364), (1, 1365, 2729), (2, 2730, 4095)]


def test_a_file_that_differs_from_the_log_is_reported_by_key() -> None:
    config = parse(TEXT)
    logged = initial_settings(config)
    assert settings_differences(config, logged) == []
    changed = parse(TEXT.replace("scale: 2", "scale: 3"))
    assert [line.split()[0] for line in settings_differences(changed, logged)] == ["ledgers"]
    assert logged.ledgers[0] == Ledger(1, "EUR", 2)


def test_an_unknown_replica_is_told_with_the_known_ones() -> None:
    with pytest.raises(EngineStopped, match="its replicas are a"):
        replica_config(parse(TEXT), 0, "z")
    with pytest.raises(EngineStopped, match="its groups are 0"):
        replica_config(parse(TEXT), 5, "a")


def test_addresses_split_into_host_and_port() -> None:
    assert split_address("[::1]:80") == ("::1", 80)
    for wrong in ("host", "host:0", "host:70000", ":1", "host:x"):
        with pytest.raises(ValueError, match="host:port"):
            split_address(wrong)
