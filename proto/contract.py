"""The contracts' own tool: generate their Python code, and check that code, style and compatibility are in order.

There are two: the public one, `postingengine.v1`, whose code the client ships, and what nodes and routers say among
themselves, `engine.peer.v1`, whose code is the engine's own.

`python proto/contract.py generate` writes `client/postingengine/v1` and `engine/peer/v1`. `check` fails if that code is
not current, if buf's lint rules are not met, or if a contract breaks the one in `proto/baseline.binpb`. `baseline`
accepts today's contracts as the ones that later changes must not break. All of it works offline: what they import from
Google comes with googleapis-common-protos, and buf is given the compiled contracts instead of fetching anything.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from google.protobuf.descriptor_pb2 import (
    EnumDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)
from google.rpc import status_pb2

PROTO: Final = Path(__file__).resolve().parent
ROOT: Final = PROTO.parent
PACKAGE: Final = Path("postingengine/v1")
PEER_PACKAGE: Final = Path("engine/peer/v1")
HOMES: Final = {PACKAGE: Path("client"), PEER_PACKAGE: Path()}
"""Below which folder of the repository the code of each package lies."""
BASELINE: Final = PROTO / "baseline.binpb"
GOOGLE: Final = Path(status_pb2.__file__).resolve().parents[2]
"""Where googleapis-common-protos puts google/rpc/status.proto."""
OUTCOMES: Final = "outcomes.py"
GENERATED: Final = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi", OUTCOMES)
BUF_SECONDS_MAX: Final = 60


OUTCOME_HEAD: Final = '''\
"""How a request ended. Generated from the contract by proto/contract.py: do not edit."""

from enum import IntEnum


class Outcome(IntEnum):
    """The deterministic, replicated, final answer for an id. The number says the class: 1-9 it took effect; 10-39 its
    id is already taken by another body; 40-59 refused by the request; 60-99 by an account; 100-129 by the reservation
    or transfer that it follows; 130-149 by its chain; 150-199 account commands."""

'''
OUTCOME_TAIL: Final = '''
    @classmethod
    def _missing_(cls, value: object) -> "Outcome | None":
        """Outcomes are appended: a newer engine's is a member by its number, `OUTCOME_<number>`."""
        if not isinstance(value, int) or not 0 <= value <= 0xFFFF:
            return None
        member = int.__new__(cls, value)
        member._name_, member._value_ = f"OUTCOME_{value}", value
        return cls._value2member_map_.setdefault(value, member)  # type: ignore[return-value]
'''


class ContractError(Exception):
    """One sentence, or a tool's own lines, that say what is wrong with the contract."""


def protoc(contract: Path, *options: str) -> None:
    """Run protoc over every .proto file below `contract`; raise `ContractError` with its lines if it refuses."""
    compile_files(contract, tuple(HOMES), *options)


def compile_files(contract: Path, packages: tuple[Path, ...], *options: str) -> None:
    """Run protoc over the .proto files of some packages."""
    files = sorted(str(path) for package in packages for path in (contract / package).glob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{contract}", f"-I{GOOGLE}", *options, *files]
    run(command)


def run(command: list[str]) -> None:
    """Run one tool to its end; raise `ContractError` with its lines if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUF_SECONDS_MAX, check=False)
    if done.returncode:
        raise ContractError((done.stdout + done.stderr).strip())


def image(contract: Path, folder: Path) -> Path:
    """Compile the contract with all that it imports into one file that buf reads; return its path."""
    path = folder / "image.binpb"
    protoc(contract, "--include_imports", "--include_source_info", f"--descriptor_set_out={path}")
    return path


def generate(contract: Path, root: Path) -> None:
    """Write the Python code of the contracts below `root`, replacing what was generated there before."""
    files = list(descriptors(contract))
    for package, home in HOMES.items():
        generate_package(contract, package, root / home, [one for one in files if is_of(one, package)])


def generate_package(contract: Path, package: Path, home: Path, files: list[FileDescriptorProto]) -> None:
    """Write the code of one package below `home`."""
    target = home / package
    target.mkdir(parents=True, exist_ok=True)
    for path in generated(target):
        path.unlink()
    compile_files(contract, (package,), f"--python_out={home}", f"--pyi_out={home}", f"--grpc_python_out={home}")
    for file in files:
        stub = home / stub_path(file)
        if file.service:
            stub.with_suffix(".pyi").write_text(stub_types(file, package))
        else:
            stub.unlink()
        for enum, comments in documented_enums(file):
            if enum.name == "Outcome":
                (target / OUTCOMES).write_text(outcome_module(enum, comments))


def is_of(file: FileDescriptorProto, package: Path) -> bool:
    """Whether a compiled file belongs to a package."""
    return file.name.startswith(f"{package.as_posix()}/")


def generated(target: Path) -> list[Path]:
    """Return the generated files in a folder, by name."""
    return sorted(path for pattern in GENERATED for path in target.glob(pattern))


def stale(contract: Path, root: Path) -> list[str]:
    """Return the names of the generated files below `root` that `generate` would write differently."""
    with tempfile.TemporaryDirectory() as folder:
        generate(contract, Path(folder))
        fresh = contents(Path(folder))
    found = contents(root)
    return sorted(name for name in fresh.keys() | found.keys() if fresh.get(name) != found.get(name))


def contents(root: Path) -> dict[str, bytes]:
    """Return what is generated below `root`, by file name."""
    return {
        path.name: path.read_bytes() for package, home in HOMES.items() for path in generated(root / home / package)
    }


def buf(*arguments: str) -> None:
    """Run buf under our rules on the files of our packages; raise `ContractError` with its lines if any is broken."""
    binary = Path(sys.executable).parent / "buf"
    paths = [word for package in HOMES for word in ("--path", str(package.parent))]
    run([str(binary), *arguments, "--config", str(PROTO / "buf.yaml"), *paths])


def lint(contract: Path) -> None:
    """Hold the contract to buf's lint rules."""
    with tempfile.TemporaryDirectory() as folder:
        buf("lint", str(image(contract, Path(folder))))


def breaking(contract: Path, baseline: Path = BASELINE) -> None:
    """Hold the contract to what `baseline` promises: nothing that is there may vanish or change its meaning."""
    with tempfile.TemporaryDirectory() as folder:
        buf("breaking", str(image(contract, Path(folder))), "--against", str(baseline))


def write_baseline(contract: Path, baseline: Path = BASELINE) -> None:
    """Accept the contract as it is: later ones must not break it."""
    protoc(contract, "--include_imports", f"--descriptor_set_out={baseline}")


def descriptors(contract: Path) -> Iterator[FileDescriptorProto]:
    """Yield the compiled files of our packages."""
    with tempfile.TemporaryDirectory() as folder:
        files = FileDescriptorSet.FromString(image(contract, Path(folder)).read_bytes())
    yield from (file for file in files.file if any(is_of(file, package) for package in HOMES))


def stub_path(file: FileDescriptorProto) -> str:
    """Return where protoc puts the code of a file's services; it writes one for files without any too."""
    return file.name.removesuffix(".proto") + "_pb2_grpc.py"


def stub_types(file: FileDescriptorProto, package: Path) -> str:
    """Return the types of a file's services, which protoc leaves out: for asyncio servicers, and both sorts of stub."""
    module = f"{Path(file.name).stem}_pb2"
    head = [
        "# Generated from the contract by proto/contract.py: do not edit.",
        "from collections.abc import AsyncIterator, Awaitable",
        "from typing import overload, type_check_only",
        "",
        "import grpc",
        "import grpc.aio",
        "",
        f"from {package.as_posix().replace('/', '.')} import {module} as messages",
        "",
    ]
    return "\n".join(head + [line for service in file.service for line in service_types(service)])


def service_types(service: ServiceDescriptorProto) -> list[str]:
    """Return the lines for one service: stub, asyncio stub, servicer and its registration."""
    name = service.name
    return [
        f"class {name}Stub:",
        "    @overload  # type: ignore[misc]",
        f"    def __new__(cls, channel: grpc.Channel) -> {name}Stub: ...",
        "    @overload",
        f"    def __new__(cls, channel: grpc.aio.Channel) -> {name}AsyncStub: ...",
        *(f"    {method.name}: grpc.{callable_type(method)}" for method in service.method),
        "",
        "@type_check_only",
        f"class {name}AsyncStub:",
        *(f"    {method.name}: grpc.aio.{callable_type(method)}" for method in service.method),
        "",
        f"class {name}Servicer:",
        *(line for method in service.method for line in servicer_method(method)),
        "",
        f"def add_{name}Servicer_to_server(",
        f"    servicer: {name}Servicer, server: grpc.Server | grpc.aio.Server",
        ") -> None: ...",
        "",
    ]


def callable_type(method: MethodDescriptorProto) -> str:
    """Return the type of a stub's method."""
    sides = ("Stream" if streaming else "Unary" for streaming in (method.client_streaming, method.server_streaming))
    return f"{''.join(sides)}MultiCallable[{message(method.input_type)}, {message(method.output_type)}]"


def servicer_method(method: MethodDescriptorProto) -> list[str]:
    """Return the lines for one method of an asyncio servicer."""
    request, response = message(method.input_type), message(method.output_type)
    given = f"request_iterator: AsyncIterator[{request}]" if method.client_streaming else f"request: {request}"
    answer = f"AsyncIterator[{response}]" if method.server_streaming else f"Awaitable[{response}]"
    return [
        f"    def {method.name}(",
        f"        self, {given}, context: grpc.aio.ServicerContext[{request}, {response}]",
        f"    ) -> {answer}: ...",
    ]


def message(type_name: str) -> str:
    """Return the Python name of a message of the same file."""
    return f"messages.{type_name.rsplit('.', 1)[-1]}"


def documented_enums(file: FileDescriptorProto) -> Iterator[tuple[EnumDescriptorProto, dict[int, str]]]:
    """Yield the enums of a file, each with the comments of its values by their place."""
    ours, values = FileDescriptorProto.ENUM_TYPE_FIELD_NUMBER, EnumDescriptorProto.VALUE_FIELD_NUMBER
    for number, enum in enumerate(file.enum_type):
        yield (
            enum,
            {
                place.path[3]: place.leading_comments.strip()
                for place in file.source_code_info.location
                if list(place.path[:3]) == [ours, number, values] and len(place.path) == 4
            },
        )


def outcome_module(enum: EnumDescriptorProto, comments: dict[int, str]) -> str:
    """Return the outcomes as a Python enum, without the prefix that protobuf needs."""
    lines = OUTCOME_HEAD.splitlines()
    for place, value in enumerate(enum.value):
        told = " ".join(comments[place].split())
        lines += [f"    {value.name.removeprefix('OUTCOME_')} = {value.number}", f'    """{told}"""']
    return "\n".join([*lines, *OUTCOME_TAIL.splitlines(), ""])


def check() -> None:
    """Do all checks; raise `ContractError` at the first that fails."""
    names = stale(PROTO, ROOT)
    if names:
        raise ContractError(f"The generated code is not current ({', '.join(names)}): run 'make proto'.")
    lint(PROTO)
    breaking(PROTO)


COMMANDS: Final[dict[str, Callable[[], None]]] = {
    "generate": lambda: generate(PROTO, ROOT),
    "check": check,
    "baseline": lambda: write_baseline(PROTO),
}


def main(arguments: list[str]) -> int:
    """Run the one command named; return the exit status."""
    if len(arguments) != 1 or arguments[0] not in COMMANDS:
        print(f"usage: python proto/contract.py {'|'.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        COMMANDS[arguments[0]]()
    except ContractError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
