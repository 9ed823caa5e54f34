"""Cost and energy of a run, from a dated table of prices that the user can edit."""

import dataclasses
import pathlib
import tomllib
from collections.abc import Mapping
from typing import Any

from plumbline import UserError

SHIPPED = pathlib.Path(__file__).parent / "prices.toml"
"""The table that is used by default."""

_FIELDS = ("on_demand", "spot", "watts")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Price:
    """The prices of one kind of device.

    Attributes:
      on_demand: price of an hour of one device.
      spot: the same for a device that can be preempted.
      watts: power of one device under load.
      date: of the table.
      currency: of the prices.
      power_usage_effectiveness: energy of a data centre for each unit that reaches its machines.
    """

    on_demand: float
    spot: float
    watts: float
    date: str
    currency: str
    power_usage_effectiveness: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bill:
    """The cost of a whole run.

    Attributes:
      on_demand: money, in the table's currency.
      spot: likewise; what a preempted machine repeats is not in it.
      kwh: energy, the data centre's own share within.
    """

    on_demand: float
    spot: float
    kwh: float

    @classmethod
    def of(cls, price: Price, *, hours: float, devices: int) -> "Bill":
        """Computes the cost and energy of `devices` for `hours`."""
        device_hours = hours * devices
        return cls(
            on_demand=device_hours * price.on_demand,
            spot=device_hours * price.spot,
            kwh=device_hours * price.watts * price.power_usage_effectiveness / 1000,
        )


def read(path: str | pathlib.Path, device: str) -> Price:
    """Reads the price of a device from a table.

    Args:
      path: of a TOML file like `prices.toml` beside this module, "" for that one.
      device: the name of its section: "v5e", "h100", "cpu".

    Raises:
      UserError: there is no such file, it is no such table, or the device is not in it.
    """
    path = pathlib.Path(path or SHIPPED)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"--prices: cannot read '{path}': {error.strerror}; name a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"--prices: '{path}' is no TOML file: {error}") from error
    section = table.get(device)
    if not isinstance(section, dict):
        raise UserError(
            f"--prices: '{path}' has no price of {device}; add a section [{device}] with on_demand and spot (for one "
            "device and hour) and watts"
        )
    prices = {name: _number(section, name, f"[{device}] {name}", path) for name in _FIELDS}
    return Price(
        **prices,
        date=str(table.get("date", "no date")),
        currency=str(table.get("currency", "USD")),
        power_usage_effectiveness=_number(table, "power_usage_effectiveness", "power_usage_effectiveness", path),
    )


def _number(table: Mapping[str, Any], name: str, where: str, path: pathlib.Path) -> float:
    value = table.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise UserError(f"--prices: '{path}', {where}: {value!r} is no number of at least 0; write one")
    return float(value)
