"""The one record every measurement becomes, and the results file that holds them.

``results.json`` is ``{"schema": 1, "environment": {...}, "records": [...]}`` in strict JSON. JSON has no NaN and no
infinity, so where a number is expected they are written as the strings "nan", "inf" and "-inf" and read back as
floats; null means that nothing was measured.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from harness.results.catalogue import Direction
from harness.results.sources import Sources

SCHEMA = 1
REPORTED_PACKAGES = ("torch", "transformers", "ttnn")
REFERENCE_TARGET = "torch"  # of rows beside ours, which nothing judges

Phase = Literal["prefill", "decode"]
Clock = Literal["device", "host", "model"]
Verdict = Literal[
    "pass", "regression", "inconclusive", "missing_golden", "stale_golden", "missing_baseline", "not_compared"
]

_SPELLED = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def _unspell(value: object) -> object:
    return _SPELLED.get(value, value) if isinstance(value, str) else value


Number = Annotated[float, BeforeValidator(_unspell)]
Samples = Annotated[tuple[Number, ...], BeforeValidator(lambda value: tuple(value))]  # JSON has lists only
_STRICT = ConfigDict(strict=True, extra="forbid")
# Of what another version wrote, fields that are not known are passed over
_READ = ConfigDict(strict=True, extra="ignore")


class ResultsError(RuntimeError):
    """A results or report file cannot be written or read; the message is one line that names it."""


@checked_dataclass(frozen=True, kw_only=True, config=_READ)
class Figure:
    """What of a record a gate compares. Seconds and bytes, always. Types are checked when it is made (pydantic.ValidationError)."""

    test: str  # pytest node id
    module: str  # "attention", "mlp", "model", ...
    metric: str  # its name in the catalogue
    value: Number | None  # None: nothing was measured, and the verdict says why
    verdict: Verdict
    target: str  # of harness.targets, or REFERENCE_TARGET
    precision: str  # accuracy, performance, ...; "bf16" with target "torch"
    layer: int | None = None
    mesh: str = "1x1"
    phase: Phase | None = None
    batch: int = 1
    seq_len: int = 0
    unit: str = ""
    n: int = 1  # how many elements, tokens or samples the value stands on
    clock: Clock | None = None
    gate: Number | None = None
    direction: Direction | None = None
    note: str = ""
    details: dict[str, Number | str] = field(default_factory=dict)  # shown, not gated
    samples: Samples = ()  # of a latency: the seconds of each round of this process; the value is their median


@checked_dataclass(frozen=True, kw_only=True, config=_STRICT)
class Record(Figure):
    """One figure of a run, as it is filed."""

    guideline: Number | None = None
    golden: str | None = None
    # The weakest source of the values it stands on: "exact", "golden", "none"; None: the device
    source: str | None = None
    # How often the test ran until it said this; more where a plugin ran it again after a failure
    tries: int = 1


@checked_dataclass(frozen=True, kw_only=True, config=_READ)
class Origin:
    """On what a run was made, as far as two runs must agree in it. None: it does not say."""

    model: str
    target: str
    mesh: str
    weights_digest: str | None = None
    emulator_mode: str | None = None
    goldens: str | None = None  # digest of what all goldens depend on: weights, text, format
    commit: str | None = None  # of the folder the run started in, with a digest of what is not committed


@checked_dataclass(frozen=True, kw_only=True, config=_STRICT)
class Environment(Origin):
    """Where and on what a run was made."""

    python: str
    platform: str
    cpu_count: int
    cpu_model: str
    versions: dict[str, str | None]  # None: not installed
    cpu_path: str | None = None  # the emulator's: capability of the CPU and the path taken for it

    @property
    def machine(self) -> str:
        """The CPU, and how the emulator computed on it, for a reader."""
        path = f" ({self.cpu_path})" if self.cpu_path else ""
        return f"{self.cpu_count} cores of {self.cpu_model}{path}"

    @classmethod
    def collect(
        cls,
        *,
        target: str,
        mesh: str,
        model: str,
        weights_digest: str | None = None,
        emulator_mode: str | None = None,
        goldens: str | None = None,
        cpu_path: str | None = None,
    ) -> "Environment":
        """Fills in what the machine knows about itself; the caller says what was run."""
        return cls(
            python=platform.python_version(),
            platform=platform.platform(),
            cpu_count=_usable_cpus(),
            cpu_model=cpu_model(),
            versions={name: _version(name) for name in REPORTED_PACKAGES},
            target=target,
            mesh=mesh,
            model=model,
            weights_digest=weights_digest,
            emulator_mode=emulator_mode,
            commit=_commit(),
            goldens=goldens,
            cpu_path=cpu_path,
        )


@dataclass(frozen=True)
class Results:
    """What one results file holds."""

    environment: Environment
    records: tuple[Record, ...]
    sources: Sources | None = None  # None: all values are the target's own


@checked_dataclass(frozen=True, config=_READ)
class ResultsFile:
    """What of a results file a gate compares, whichever version wrote it."""

    schema: Literal[1]
    environment: Origin
    records: tuple[Figure, ...]


Checked = TypeVar("Checked", Record, Environment, Sources)
Read = TypeVar("Read")
_FILE = TypeAdapter(ResultsFile)


def record_to_json(record: Record) -> dict[str, Any]:
    """A record as plain JSON values (NaN and Inf spelled out): also what xdist workers send home."""
    return {f.name: _plain(getattr(record, f.name)) for f in fields(record)}


def record_from_json(data: dict[str, Any]) -> Record:
    """The inverse of record_to_json. Raises pydantic.ValidationError for a wrong, missing or unknown field."""
    return Record(**data)


def write_results(
    path: Path, environment: Environment, records: Sequence[Record], sources: Sources | None = None
) -> None:
    """Writes the file whole or not at all. Raises ResultsError, one line, when the disk or folder refuses."""
    data = {
        "schema": SCHEMA,
        "environment": _plain(asdict(environment)),
        "records": [record_to_json(r) for r in records],
    }
    if sources is not None:
        data["sources"] = _plain(asdict(sources))
    write_text_atomically(path, json.dumps(data, indent=1, allow_nan=False) + "\n")


def read_results(path: Path) -> Results:
    """Reads and checks a results file. Raises ResultsError, one line: absent, truncated, other schema, wrong field."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except OSError as error:
        raise ResultsError(f"cannot read results {path}: {error.strerror}") from error
    except ValueError as error:
        raise ResultsError(f"results {path} is not complete JSON (truncated?): {error}") from error
    if not isinstance(data, dict) or "schema" not in data:
        raise ResultsError(f"{path} is not a results file: no 'schema' field")
    if data["schema"] != SCHEMA:
        raise ResultsError(
            f"results {path} has schema {data['schema']!r}; this version reads schema {SCHEMA}"
        )
    environment, records = data.get("environment"), data.get("records")
    if not isinstance(environment, dict) or not isinstance(records, list):
        raise ResultsError(f"results {path} needs an object 'environment' and a list 'records'")
    return Results(
        _checked(Environment, environment, f"results {path}, environment"),
        tuple(_checked(Record, item, f"results {path}, record {i}") for i, item in enumerate(records)),
        _checked(Sources, data["sources"], f"results {path}, sources") if "sources" in data else None,
    )


def read_figures(path: Path) -> ResultsFile:
    """Reads what a gate compares. Raises ResultsError, one line."""
    return read_as(_FILE, path, "results")


def read_as(kind: TypeAdapter[Read], path: Path, what: str) -> Read:
    """A JSON file of a kind. Raises ResultsError, one line, which calls the file `what`."""
    try:
        return kind.validate_json(path.read_bytes())
    except OSError as error:
        raise ResultsError(f"cannot read {what} {path}: {error.strerror}") from error
    except ValidationError as error:
        raise ResultsError(f"{path} is not a {what} file: {_fault(error)}") from error


def check_writable(path: Path) -> None:
    """Raises ResultsError, one line, where a file of this name could not be written; makes its folder."""
    if path.is_dir():
        raise ResultsError(f"cannot write {path}: it is a folder")
    probe = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ResultsError(f"cannot write {path}: {error.strerror} ({error.filename})") from error


def write_text_atomically(path: Path, text: str) -> None:
    """Writes to a temporary file in the same folder, then renames. Raises ResultsError and leaves nothing behind."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        culprit = f" ({error.filename})" if error.filename and error.filename != str(temporary) else ""
        raise ResultsError(f"cannot write {path} ({len(text)} bytes): {error.strerror}{culprit}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return (
            float(value) if math.isfinite(value) else next(k for k, v in _SPELLED.items() if _same(v, value))
        )
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


def _refuse_constant(name: str) -> float:
    raise ValueError(f'bare {name}; expected the string "nan", "inf" or "-inf"')


def _checked(kind: type[Checked], data: object, where: str) -> Checked:
    if not isinstance(data, dict):
        raise ResultsError(f"{where} is {type(data).__name__}; expected an object")
    try:
        return kind(**data)
    except ValidationError as error:
        fault = error.errors()[0]
        name = ".".join(str(part) for part in fault["loc"])
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise ResultsError(
            f"{where}: field {name} is {fault['input']!r:.60}: {fault['msg']}{more}"
        ) from error


def _fault(error: ValidationError) -> str:
    """The first fault, in a line."""
    fault: Any = error.errors()[0]
    where = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "json_invalid":
        return f"incomplete JSON, truncated? ({fault['ctx']['error']})"
    if fault["type"] == "missing":
        return f"it has no {where}"
    return f"{where} is {fault['input']!r:.60}: {fault['msg']}"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The git commit of the current folder; "+" and a digest of the changes to tracked files, where there are any."""
    try:
        head, changes = (
            subprocess.run(["git", *arguments], capture_output=True, check=True).stdout
            for arguments in (("rev-parse", "HEAD"), ("diff", "HEAD", "--no-ext-diff"))
        )
    except (OSError, subprocess.CalledProcessError):
        return None  # no git, or no repository
    changed = f"+{hashlib.sha256(changes).hexdigest()[:8]}" if changes else ""
    return head.decode().strip() + changed


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_model() -> str:
    """What the system calls this CPU."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
