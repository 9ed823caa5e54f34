import re

import pytest

from diagnostics.cost import prices
from diagnostics.cost.prices import Bill, Price
from diagnostics.cost.target import GPUS, TPU_SHAPES
from plumbline import UserError

PRICE = Price(on_demand=2.0, spot=0.5, watts=300.0, date="2025-01-01", currency="EUR", power_usage_effectiveness=1.2)


def test_a_bill_is_device_hours_times_prices():
    bill = Bill.of(PRICE, hours=10.0, devices=8)
    assert bill == Bill(on_demand=160.0, spot=40.0, kwh=pytest.approx(80 * 0.3 * 1.2))


@pytest.mark.parametrize("device", [*TPU_SHAPES, *GPUS, "cpu"])
def test_every_device_that_can_be_planned_for_has_a_price(device):
    price = prices.read("", device)
    assert 0 <= price.spot <= price.on_demand
    assert price.watts > 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", price.date)


def test_a_table_of_ones_own_is_read(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('date = "2026-01-01"\ncurrency = "CHF"\npower_usage_effectiveness = 1\n[v5e]\n'
                    "on_demand = 1\nspot = 0.25\nwatts = 200\n")  # fmt: skip
    price = prices.read(path, "v5e")
    assert (price.on_demand, price.currency, price.watts) == (1.0, "CHF", 200.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("power_usage_effectiveness = 1\n", "has no price of v5e; add a section [v5e] with on_demand and spot"),
        ("power_usage_effectiveness = 1\n[v5e]\non_demand = 1\nwatts = 2\n", "[v5e] spot: None is no number"),
        ("[v5e]\non_demand = 1\nspot = -1\nwatts = 2\n", "[v5e] spot: -1 is no number of at least 0"),
        ("[v5e\n", "is no TOML file"),
    ],
)
def test_a_wrong_table_says_which_file_and_what_to_add(tmp_path, text, message):
    path = tmp_path / "prices.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=re.escape(message)) as error:
        prices.read(path, "v5e")
    assert str(path) in str(error.value)


def test_a_missing_table_is_told(tmp_path):
    with pytest.raises(UserError, match=r"--prices: cannot read '.*none.toml': No such file"):
        prices.read(tmp_path / "none.toml", "v5e")
