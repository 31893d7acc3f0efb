"""The contract mirrors the engine's own numbers, documents itself, and cannot be broken unnoticed."""

import importlib.util
import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from google.protobuf.descriptor import Descriptor, FileDescriptor
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from engine.core.outcomes import Outcome
from engine.core.records import CALLER_TRANSFER_KINDS, AccountFlag, Flag
from postingengine.v1 import account_pb2, outcome_pb2, posting_service_pb2, transfer_pb2
from postingengine.v1.outcomes import Outcome as ClientOutcome

ROOT = Path(__file__).resolve().parents[2]


def load_contract_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("contract_tool", ROOT / "proto" / "contract.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


contract = load_contract_tool()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the .proto files that a test may spoil."""
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    return tmp_path / "proto"


def spoil(copy: Path, file: str, old: str, new: str) -> None:
    (path,) = copy.rglob(file)
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


TOLD = [outcome for outcome in Outcome if outcome is not Outcome.SECURED]
"""SECURED stands in journals only."""


def numbers(enum: EnumTypeWrapper, prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): number for name, number in enum.items() if number}


def test_the_contract_is_in_order() -> None:
    contract.check()


def test_outcomes_are_the_engine_s_number_for_number() -> None:
    assert numbers(outcome_pb2.Outcome, "OUTCOME_") == {member.name: member.value for member in TOLD if member}


def test_the_client_s_outcomes_are_the_engine_s_number_for_number() -> None:
    assert {member.name: member.value for member in ClientOutcome} == {member.name: member.value for member in TOLD}


def test_an_outcome_of_a_newer_engine_is_a_member_by_its_number() -> None:
    assert ClientOutcome(9999).name == "OUTCOME_9999"
    assert ClientOutcome(9999) is ClientOutcome(9999)


def test_kinds_are_the_record_s_number_for_number() -> None:
    assert numbers(transfer_pb2.TransferKind, "TRANSFER_KIND_") == {
        kind.name: kind.value for kind in CALLER_TRANSFER_KINDS
    }


def test_transfer_flags_are_the_record_s_bits() -> None:
    assert numbers(transfer_pb2.TransferFlag, "TRANSFER_FLAG_") == {flag.name: flag.value for flag in Flag}


def test_account_flags_are_the_row_s_bits() -> None:
    assert numbers(account_pb2.AccountFlag, "ACCOUNT_FLAG_") == {flag.name: flag.value for flag in AccountFlag}


def messages(file: FileDescriptor) -> Iterator[Descriptor]:
    yield from file.message_types_by_name.values()


def test_times_are_fixed64_nanoseconds_everywhere() -> None:
    times = {"timestamp", "effective_at", "created_at", "as_of", "deadline", "from_time", "to_time", "time"}
    files = [posting_service_pb2.DESCRIPTOR, *posting_service_pb2.DESCRIPTOR.dependencies]
    found = {field.name: field.type for file in files for message in messages(file) for field in message.fields}
    assert {found[name] for name in times & found.keys()} == {6}, "6 is fixed64"


def test_the_client_asks_for_the_versions_that_its_generated_code_insists_on() -> None:
    generated = ROOT / "client" / "postingengine" / "v1"
    grpc_version = re.search(
        r"GRPC_GENERATED_VERSION = '(.+)'", (generated / "posting_service_pb2_grpc.py").read_text()
    )
    protobuf_version = re.search(r"# Protobuf Python Version: (.+)", (generated / "types_pb2.py").read_text())
    assert grpc_version is not None
    assert protobuf_version is not None
    asked = tomllib.loads((ROOT / "client" / "pyproject.toml").read_text())["project"]["dependencies"]
    assert f"grpcio>={grpc_version[1]}" in asked
    assert any(one.startswith(f"protobuf>={protobuf_version[1]},") for one in asked)


def test_code_that_is_not_current_is_found(copy: Path) -> None:
    spoil(copy, "types.proto", "string code = 2;", "string code = 2;\n  // Its name.\n  string name = 9;")
    assert contract.stale(copy, ROOT) == ["types_pb2.py", "types_pb2.pyi"]


def test_the_peers_code_that_is_not_current_is_found_too(copy: Path) -> None:
    path = copy / "engine" / "peer" / "v1" / "peer_service.proto"
    path.write_text(path.read_text().replace("uint64 log_index = 2;", "fixed64 log_index = 2;"))
    assert contract.stale(copy, ROOT) == ["peer_service_pb2.py"]


def test_a_field_without_a_comment_is_found(copy: Path) -> None:
    spoil(copy, "types.proto", "  // The ledger's number. Range 1 to 2^32 - 1.\n", "")
    with pytest.raises(contract.ContractError, match=r"types\.proto.*should have a non-empty comment"):
        contract.lint(copy)


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("outcome.proto", "OUTCOME_POSTED = 1;", "OUTCOME_POSTED = 9;", "enum value"),
        ("transfer.proto", "Uint128 amount = 4;", "Uint128 amount = 40;", "was deleted"),
        ("transfer.proto", "uint32 timeout_s = 11;", "uint64 timeout_s = 11;", "changed type"),
        ("posting_service.proto", "bytes packed = 2;", "bytes packet = 2;", "changed name"),
        ("admin_service.proto", "rpc Audit(AuditRequest)", "rpc Auditing(AuditRequest)", "was deleted"),
        ("admin_service.proto", "rpc ListOpen(ListOpenRequest)", "rpc ListAll(ListOpenRequest)", "was deleted"),
        ("peer_service.proto", "rpc Step(StepRequest)", "rpc Stepping(StepRequest)", "was deleted"),
    ],
)
def test_a_breaking_change_is_found(copy: Path, file: str, old: str, new: str, told: str) -> None:
    spoil(copy, file, old, new)
    with pytest.raises(contract.ContractError, match=told):
        contract.breaking(copy)


def test_an_added_field_breaks_nothing(copy: Path) -> None:
    spoil(copy, "types.proto", "string code = 2;", "string code = 2;\n  // Its name.\n  string name = 9;")
    contract.breaking(copy)
