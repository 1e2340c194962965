"""Labels that the user gives a run, as its rows hold them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from raybench.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST = 64
LONGEST = 256


def flat_tags(given: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags as text, those of single hosts as "rack.HOST".

    Args:
        given: values by name; a mapping holds a value for each host.

    Raises:
        ConfigError: for too many, too long, or empty ones, and lists.
    """
    tags = dict(_flat("tags", given))
    if len(tags) > MOST:
        raise ConfigError(
            f"tags holds {len(tags)} labels, at most {MOST} are stored. Leave some out."
        )
    return tags


def _flat(key: str, given: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in given.items():
        where = f"{key}.{name}"
        if isinstance(value, Mapping):
            yield from _flat(where, value, f"{above}{name}.")
        elif value is None or isinstance(value, (list, tuple)) or not str(value).strip():
            raise ConfigError(
                f"{where} takes a label such as b7, or one for each host, not {value!r}. "
                "Correct the value."
            )
        elif len(str(value)) > LONGEST:
            raise ConfigError(f"{where} is longer than {LONGEST} characters. Shorten the label.")
        else:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            yield f"{above}{name}", text
