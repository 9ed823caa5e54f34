"""The report of findings made by hand: figures, arrays, plots, page and lines."""

import base64
import html.parser
import io
import itertools
import json
import pathlib
import re
import tomllib

import jinja2.nodes
import markupsafe
import numpy as np
import pytest
from PIL import Image

from configs import defaults
from diagnostics.examples import open_examples
from diagnostics.finding import Curves, Finding, Histogram, Measure, Question, Remedy, Rows, Table
from plumbline import UserError
from reporting import audit_files, audit_page, audit_plots, templating, terminal
from reporting.audit_report import Report

HOSTILE = "</style><script>alert('x')</script> & \"q\" $\\frac{ \x1b[31m\u202e"
# What a reader is to see of it: control characters and turned directions made visible.
SEEN = "</style><script>alert('x')</script> & \"q\" $\\frac{ \ufffd[31m\ufffd"
FLAGS = (
    "'--config.data.findings=runs/an audit' --config.data.drop=findings:exact_duplicates '--config.model.hidden=(1, 2)'"
)
VOID = {"meta", "img", "br", "source"}


class Page(html.parser.HTMLParser):
    """All tags with their attributes, and all text; that every tag is closed where it was opened."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self._open, self._headings = [], "", [], []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if "style" not in self._open:
            self.text += data

    def of(self, *tags):
        return [attributes for tag, attributes in self.tags if tag in tags]


def report(examples, *findings, **fields):
    return Report(directory="runs/an audit", source=HOSTILE, examples=examples, findings=findings, **fields)


def finding(*evidence, name="exact_duplicates", severity="high", **fields):
    return Finding(name=name, challenge="data quality", severity=severity, message=HOSTILE, evidence=evidence, **fields)


def page_of(examples, *findings, **fields):
    found = report(examples, *findings, **fields)
    return audit_page.render_page(found, audit_plots.draw_all(found.findings))


@pytest.fixture(scope="module")
def iris():
    config = defaults.get_config().data
    config.source = "sklearn:iris"
    return open_examples(config, seed=0)


@pytest.fixture(scope="module")
def digits():
    config = defaults.get_config().data
    config.source = "digits"
    return open_examples(config, seed=0)


@pytest.fixture(scope="module")
def everything(iris):
    """A finding with all that one can have."""
    line = np.array([[1.0, 0.5], [10.0, np.nan], [100.0, 0.2]])
    banded = np.array([[1.0, 0.5, 0.4, 0.6], [100.0, 0.2, 0.1, 0.3]])
    return finding(
        Rows(title=HOSTILE, clusters=((101, 142), (3,)), notes=(HOSTILE, ""), total=7),
        Table(title=HOSTILE, header=("a", HOSTILE), rows=((np.float32(0.5), HOSTILE), (np.nan, 12345))),
        Histogram(title="h", label=HOSTILE, values={HOSTILE: np.array([1.0, 2.5, np.nan]), "_b": np.ones(3)}),
        Curves(title="c", x_label="n", y_label=HOSTILE, lines={HOSTILE: line, "b": banded}, log_x=True),
        measures=(
            Measure(name=HOSTILE, value=0.125, low=0.1, high=np.inf, kind="share"),
            Measure(name="copies", value=np.int64(3), kind="count"),
        ),
        remedies=(
            Remedy(text=HOSTILE, overrides={"data.drop": "findings:exact_duplicates", "model.hidden": (1, 2)}),
            Remedy(text="Look at them."),
        ),
        drop=np.array([3, 110]),
        weights=np.linspace(0, 1, 150, dtype=np.float32),
    )


def test_the_page_refers_to_nothing_outside_and_holds_nothing_that_runs(iris, digits, everything):
    images = finding(Rows(title="pairs", clusters=((0, 1), (2, 3)), total=2))
    for text in (page_of(iris, everything), page_of(digits, images)):
        outside = re.sub("data:image/png;base64,[A-Za-z0-9+/=]+", "", text)
        assert not re.search(r"https?:|//[a-z]|url\(|@import|@font-face", outside)
        found = Page(text)
        assert not found.of("script", "link", "iframe", "object", "form", "base")
        assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]
        links = [attributes["href"] for attributes in found.of("a")]
        anchors = {attributes["id"] for _, attributes in found.tags if "id" in attributes}
        assert links
        assert {link.removeprefix("#") for link in links} <= anchors
        assert found.of("html")[0]["lang"] == "en"


def test_every_image_stands_in_the_page_and_opens_with_words_for_the_blind(iris, digits, everything):
    shown = finding(Rows(title="pairs", clusters=((0, 1), (1796,)), notes=("close", ""), total=2))
    for text, count, size in ((page_of(iris, everything), 4, None), (page_of(digits, shown), 3, (8, 8))):
        found = Page(text)
        sources = [attributes.get("src") or attributes["srcset"] for attributes in found.of("img", "source")]
        assert len(sources) == count
        for source in sources:
            head, _, data = source.partition(",")
            assert head == "data:image/png;base64"
            with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as image:
                image.load()
                assert size in (None, image.size)
        assert all(attributes["alt"] for attributes in found.of("img"))


def test_images_are_the_pixels_of_the_set_scaled_by_a_whole_number(digits):
    found = Page(page_of(digits, finding(Rows(title="one", clusters=((1500,),), total=1))))
    (shown,) = found.of("img")
    assert (shown["width"], shown["height"]) == ("112", "112")
    assert shown["alt"] == f"{digits.name(1500)}, label {digits.labels[1500]}, writer {digits.groups[1500]}"
    with Image.open(io.BytesIO(base64.b64decode(shown["src"].partition(",")[2]))) as image:
        np.testing.assert_array_equal(np.asarray(image), digits.read(np.array([1500]))[0, ..., 0])


def test_names_from_the_data_are_shown_and_never_obeyed(iris, everything):
    text = page_of(iris, everything)
    found = Page(text)
    assert "<script" not in text
    assert text.count("</style>") == 1
    assert "\x1b" not in text
    assert "\u202e" not in text
    # In title, heading, message, measure, remedy, note and heading of rows, table (heading, column, cell).
    assert found.text.count(SEEN) >= 10
    assert any(SEEN in attributes["alt"] for attributes in found.of("img"))


def test_names_of_columns_classes_and_categories_are_escaped(tmp_path):
    tag = "<img src=x onerror=alert(1)>"
    lines = [f"size{tag},kind,target{tag}", *(f"{n},{'ab'[n % 2]}{tag},{'cd'[n % 2]}{tag}" for n in range(40))]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    config = defaults.get_config().data
    config.source, config.target = f"csv:{tmp_path / 't.csv'}", f"target{tag}"
    examples = open_examples(config, seed=0)
    for notes in ((tag,), ()):
        found = Page(page_of(examples, finding(Rows(title=tag, clusters=((0, 1),), notes=notes, total=1))))
        assert not found.of("img")
        # The title, two rows of a category and a class each, and the names of two columns.
        assert found.text.count(tag) == 7 + len(notes)


def test_names_of_files_are_escaped(tmp_path):
    tag = "<b onclick='x'>"
    for number in range(24):
        folder = tmp_path / "train" / f"{'ab'[number % 2]}{tag}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:02}{tag}.txt").write_text(f"{tag} {number}")
    config = defaults.get_config().data
    config.source, config.tokenizer, config.text_length = f"folder:{tmp_path}", "characters", 8
    found = Page(page_of(open_examples(config, seed=0), finding(Rows(title="a", clusters=((0, 1),), total=1))))
    assert not [attributes for attributes in found.of("b") if attributes]
    # For each of two texts its folder, its file, its class and its content.
    assert found.text.count(tag) == 8


def test_no_template_switches_escaping_off():
    environment = templating._environment()
    names = environment.list_templates()
    assert "audit.html" in names
    for name in names:
        tree = environment.parse(environment.loader.get_source(environment, name)[0])
        assert not list(tree.find_all((jinja2.nodes.ScopedEvalContextModifier, jinja2.nodes.MarkSafe)))
        assert "safe" not in {node.name for node in tree.find_all(jinja2.nodes.Filter)}


def test_templates_are_installed_with_their_packages():
    checkout = pathlib.Path(templating.__file__).parents[1]
    settings = tomllib.loads((checkout / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    for package in ("reporting", "launching"):
        assert list((checkout / package / "templates").iterdir())
        assert settings[package] == ["templates/*"]


def test_a_template_without_one_of_its_values_is_an_error():
    with pytest.raises(jinja2.UndefinedError):
        templating.render("page.html")


def test_cells_that_differ_within_a_cluster_are_marked_and_no_others(iris):
    # Rows 101 and 142 of iris are the same.
    pair = tuple(int(np.flatnonzero(iris.rows == row)[0]) for row in (101, 142))
    same = Page(page_of(iris, finding(Rows(title="a", clusters=(pair,), total=1))))
    assert not same.of("mark")
    inputs = iris.read(np.array([0, 1]))
    differing = int((inputs[0] != inputs[1]).sum() + (iris.labels[0] != iris.labels[1]))
    other = Page(page_of(iris, finding(Rows(title="a", clusters=((0, 1),), total=1))))
    assert len(other.of("mark")) == 2 * differing > 0
    assert iris.features.columns[0].name in other.text
    assert f"{inputs[0, 0]:.7g}" in other.text


def test_notes_on_rows_are_a_column_and_those_on_groups_a_line(iris):
    single = Page(page_of(iris, finding(Rows(title="a", clusters=((0,), (1,)), notes=("far", "near"), total=2))))
    assert [attributes for attributes in single.of("tr") if attributes.get("class") == "note"] == []
    assert "rownote" in single.text
    group = Page(page_of(iris, finding(Rows(title="a", clusters=((0, 1), (2,)), notes=("far", "near"), total=2))))
    assert len([attributes for attributes in group.of("tr") if attributes.get("class") == "note"]) == 2
    assert "rownote" not in group.text


def test_gaps_and_categories_are_shown_as_they_stand_in_the_file(tmp_path):
    lines = "".join(f"{'' if n == 5 else n / 4},{'' if n == 6 else 'ab'[n % 2]},{n % 3}\n" for n in range(50))
    (tmp_path / "t.csv").write_text("size,kind,target\n" + lines)
    config = defaults.get_config().data
    config.source, config.target = f"csv:{tmp_path / 't.csv'}", "target"
    examples = open_examples(config, seed=0)
    place = {int(row): place for place, row in enumerate(examples.rows)}
    text = page_of(examples, finding(Rows(title="rows", clusters=((place[5],), (place[6],), (place[7],)), total=3)))
    cells = [re.sub("<.*?>", "", cell) for cell in re.findall("<td>(.*?)</td>", text)]
    assert cells == ["2", "(missing)", "b", "0", "1.5", "(missing)", "1", "1.75", "b"]


def test_of_a_wide_table_the_columns_that_differ_are_shown(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 9, (40, 30))
    values[1:3] = values[0]
    values[2, 27] += 1
    lines = [",".join([*(f"column{n}" for n in range(30)), "target"])]
    lines += [",".join(map(str, [*row, number % 2])) for number, row in enumerate(values)]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    config = defaults.get_config().data
    config.source, config.target, config.validation = f"csv:{tmp_path / 't.csv'}", "target", "none"
    examples = open_examples(config, seed=0)
    place = {int(row): place for place, row in enumerate(examples.rows)}
    text = page_of(examples, finding(Rows(title="pair", clusters=((place[1], place[2]),), total=1)))
    assert "16 of 30 columns, those that differ first." in text
    columns = re.findall('<th scope="col">(column.*?)</th>', text)
    assert columns == ["column27", *(f"column{n}" for n in range(15))]
    assert text.count("<mark>") == 4  # The column, and the target, in both rows.

    note = "labelled 'a', the models say 'b'; " * 4
    text = page_of(examples, finding(Rows(title="alone", clusters=((0,), (1,)), notes=(note, "short"), total=2)))
    assert "16 of 30 columns." in text  # A row by itself does not differ from another one.
    assert f'<td class="words">{markupsafe.escape(note)}</td>' in text


def test_texts_are_excerpts(tmp_path):
    texts = {"a": "Tyger <b>\nburning", "b": "burning " * 100}
    for number in range(24):
        folder = tmp_path / "train" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:02}.txt").write_text(texts["ab"[number % 2]] + str(number))
    config = defaults.get_config().data
    config.source, config.tokenizer, config.text_length = f"folder:{tmp_path}", "characters", 8
    examples = open_examples(config, seed=0)
    short, long = (int(np.flatnonzero(examples.labels == label)[0]) for label in (0, 1))
    text = page_of(examples, finding(Rows(title="texts", clusters=((short, long),), notes=("alike",), total=1)))
    assert f"<blockquote>Tyger &lt;b&gt;\nburning{examples.text(short)[-2:].strip('g')}" in text
    assert f'... <span class="aside">{len(examples.text(long)) - 400} more characters</span>' in text
    assert "alike" in Page(text).text


def test_excerpts_of_texts_that_begin_alike_are_of_where_they_differ(tmp_path):
    for number in range(24):
        folder = tmp_path / "train" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:02}.txt").write_text("burning " * 90 + f"bright {number}")
    config = defaults.get_config().data
    config.source, config.tokenizer, config.text_length = f"folder:{tmp_path}", "characters", 8
    examples = open_examples(config, seed=0)
    together = page_of(examples, finding(Rows(title="texts", clusters=((0, 1),), total=1)))
    assert together.count('<span class="aside">627 characters</span> ... ') == 2
    assert f"bright {examples.text(0).split()[-1]}</blockquote>" in together
    alone = page_of(examples, finding(Rows(title="texts", clusters=((0,),), total=1)))
    assert "<blockquote>burning" in alone


def test_more_rows_than_a_page_takes_are_counted(digits):
    clusters = tuple((2 * n, 2 * n + 1) for n in range(40))
    many = finding(
        Rows(title="pairs", clusters=clusters, total=99), Rows(title="big", clusters=(tuple(range(9)),), total=1)
    )
    found = Page(page_of(digits, many))
    assert "24 of 99 groups shown." in found.text
    assert "3 more of them" in found.text
    assert len(found.of("img")) == 2 * 24 + 6


def test_an_image_that_cannot_be_decoded_is_said_to_be_one(tmp_path):
    for number in range(12):
        folder = tmp_path / "train" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4), (number * 20, 0, 0)).save(folder / f"{number:02}.png")
    (tmp_path / "train" / "a" / "04.png").write_bytes(b"no image")
    config = defaults.get_config().data
    config.source, config.max_corrupt, config.image_size = f"folder:{tmp_path}", 3, 4
    examples = open_examples(config, seed=0)
    corrupt = int(np.flatnonzero(~examples.sound(np.arange(12)))[0])
    found = Page(page_of(examples, finding(Rows(title="all", clusters=((corrupt,), ((corrupt + 1) % 12,)), total=2))))
    assert found.text.count("cannot be decoded") == 1
    assert len(found.of("img")) == 1


def test_headings_go_down_by_one_and_tables_name_their_columns(iris, everything):
    found = Page(page_of(iris, everything, Question("fit", "fit").cannot_tell("nothing was trained")))
    levels = [int(tag[1]) for tag, _ in found.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels))
    assert all("scope" in attributes for attributes in found.of("th"))
    regions = [attributes for attributes in found.of("div") if attributes.get("role") == "region"]
    assert len(regions) == len(found.of("table"))
    assert all(attributes["aria-label"] for attributes in regions)


def test_the_summary_counts_and_each_challenge_has_its_section(iris, everything):
    others = [
        finding(name="columns", severity="none"),
        Finding(name="fit_verdict", challenge="fit", severity="medium", message="Overfits."),
        Question("groups", "data quality").cannot_tell("there are none"),
    ]
    text = page_of(iris, everything, *others, trainings={"trainings": 42, "total_seconds": 61.4})
    assert re.findall(r"<b>(\d)</b> (\w+):", text) == [
        ("1", "high"),
        ("1", "medium"),
        ("0", "low"),
        ("1", "none"),
        ("1", "unknown"),
    ]
    assert re.findall(r"<h2 id=\"([\w-]+)\">", text) == ["all", "data-quality", "fit", "not-found"]
    assert re.findall(r"<h3>(.*?)</h3>", text) == ["Exact duplicates", "Groups", "Fit verdict", "Columns"]
    found = Page(text)
    assert "42 trainings in 61 s" in found.text
    assert f"{FLAGS}\n" in f"{found.text}\n".replace("Look", "\n")
    assert "2 rows to drop and a weight for each of 150 rows" in found.text
    assert "12.5 %" in found.text
    assert "10 % to no limit" in found.text


def refuse(constant):
    raise AssertionError(f"{constant} is no JSON")


def test_findings_are_strict_json_with_rows_by_split_and_source(iris, everything, tmp_path):
    found = report(iris, everything, seconds={"duplicates": 0.5})
    audit_files.write_findings(tmp_path / "findings.json", found)
    written = json.loads((tmp_path / "findings.json").read_text(), parse_constant=refuse)
    assert written["version"] == 1
    assert written["data"]["fingerprint"] == iris.fingerprint
    assert written["data"]["splits"] == {"train": 108, "validation": 12, "test": 30}
    assert written["data"]["reference"] is None
    assert written["counts"] == {"high": 1, "medium": 0, "low": 0, "none": 0, "unknown": 0}
    (it,) = written["findings"]
    assert it["message"] == HOSTILE
    assert it["measures"][0] == {"name": HOSTILE, "value": 0.125, "low": 0.1, "high": None, "kind": "share"}
    assert it["measures"][1]["low"] is None
    rows, table, histogram, curves = it["evidence"]
    assert rows["total"] == 7
    assert rows["clusters"][0]["rows"][1] == {
        "position": 142,
        "split": "test",
        "row": int(iris.rows[142]),
        "name": iris.name(142),
    }
    assert table["rows"] == [[0.5, HOSTILE], [None, 12345]]
    assert sum(histogram["counts"][HOSTILE]) == 2
    assert histogram["left_out"] == {HOSTILE: 1, "_b": 0}
    assert len(histogram["edges"]) == len(histogram["counts"]["_b"]) + 1
    assert curves["lines"][HOSTILE] == [[1.0, 0.5], [10.0, None], [100.0, 0.2]]
    assert it["remedies"][0]["overrides"] == {
        "data.findings": "runs/an audit",
        "data.drop": "findings:exact_duplicates",
        "model.hidden": [1, 2],
    }
    assert it["drop"] == {
        "train": {"positions": [3], "rows": [int(iris.rows[3])]},
        "validation": {"positions": [110], "rows": [int(iris.rows[110])]},
    }
    assert it["weights"]["train"]["examples"] == 108


def test_a_training_takes_rows_to_drop_and_weights_from_the_lists(iris, everything, tmp_path):
    found = report(iris, everything, Question("other", "fit").cannot_tell("it is late"))
    audit_files.write_lists(tmp_path / "findings.npz", found)
    config = defaults.get_config().data
    config.source, config.findings = "sklearn:iris", str(tmp_path)
    config.drop = config.weights = "findings:exact_duplicates"
    left = open_examples(config, seed=0)
    # Positions 3 and 110 are rows of the training and of the validation split.
    kept = np.delete(np.arange(150), [3, 110])
    np.testing.assert_array_equal(left.rows, iris.rows[kept])
    np.testing.assert_array_equal(left.splits["train"].weights, everything.weights[kept[:107]])
    with np.load(tmp_path / "findings.npz") as arrays:
        assert not [name for name in arrays if name.startswith("other")]
    config.drop = "findings:other"
    with pytest.raises(UserError, match="unknown name 'other'; known: exact_duplicates"):
        open_examples(config, seed=0)


def test_lists_of_other_files_are_kept_apart(tmp_path):
    for name, count in (("train", 30), ("test", 10)):
        lines = "".join(f"{number / 7:.3f},{'ab'[number % 2]}\n" for number in range(count))
        (tmp_path / f"{name}.csv").write_text("size,target\n" + lines)
    config = defaults.get_config().data
    config.source, config.test, config.target = f"csv:{tmp_path / 'train.csv'}", str(tmp_path / "test.csv"), "target"
    examples = open_examples(config, seed=0)
    weights = np.where(examples.split == "test", 1, np.linspace(0.5, 1, 40)).astype(np.float32)
    rows = finding(drop=np.array([0]), weights=weights)
    audit_files.write_lists(tmp_path / "findings.npz", report(examples, rows))
    with np.load(tmp_path / "findings.npz") as arrays:
        assert len(arrays["parts"]) == 2
        own, other = (examples.parts[split] for split in ("train", "test"))
        np.testing.assert_array_equal(arrays[f"exact_duplicates/drop/{own}"], examples.rows[:1])
        assert not len(arrays[f"exact_duplicates/drop/{other}"])
        np.testing.assert_array_equal(arrays[f"exact_duplicates/weights/{own}"][examples.rows[:30]], weights[:30])
        np.testing.assert_array_equal(arrays[f"exact_duplicates/weights/{other}"], np.ones(10))


def test_plots_are_written_under_the_names_that_the_figures_give(iris, everything, tmp_path):
    folder = tmp_path / "plots"
    folder.mkdir()
    (folder / "of_before-1.png").write_text("stale")
    pictures = audit_plots.draw_all([everything])
    audit_files.write_plots(folder, pictures)
    audit_files.write_findings(tmp_path / "findings.json", report(iris, everything))
    evidence = json.loads((tmp_path / "findings.json").read_text())["findings"][0]["evidence"]
    named = {each["plot"] for each in evidence if "plot" in each}
    assert named == {f"plots/{path.name}" for path in folder.glob("*.png")}
    assert named == {"plots/exact_duplicates-3.png", "plots/exact_duplicates-4.png"}
    vectors = [path.with_suffix(".svg") for path in folder.glob("*.png")]
    assert sorted(folder.iterdir()) == sorted([*folder.glob("*.png"), *vectors])
    assert (folder / "exact_duplicates-3.png").read_bytes().startswith(b"\x89PNG")
    assert b"<script" not in (folder / "exact_duplicates-3.svg").read_bytes()


def test_without_a_terminal_each_finding_is_a_line(iris, everything, capsys):
    terminal.print_report(report(iris, everything, Question("groups", "data quality").cannot_tell("there are none")))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{SEEN} (108 train, 12 validation, 30 test rows): 1 high, 1 cannot be judged"
    assert lines[1] == "Do not trust figures on these data before you have looked at exact duplicates."
    assert lines[3] == f"high     exact_duplicates: {SEEN}"
    assert lines[4] == "unknown  groups: Cannot tell: there are none."
    assert lines[6:] == [
        "Remedies:",
        f"  exact_duplicates: {SEEN}",
        f"    {FLAGS}",
        "  exact_duplicates: Look at them.",
        "",
    ]


def test_what_was_not_found_is_folded_on_the_page_and_one_line_on_the_terminal(iris, capsys):
    nothing = [finding(name=name, severity="none") for name in ("outliers", "missing_values")]
    found = [finding(name="label_errors", severity="medium")]
    audited = report(iris, *found, *nothing)
    text = audit_page.render_page(audited, {})
    before, _, folded = text.partition("<details>")
    assert '<p class="verdict">Nothing spoils training or evaluation, but some of it is lost by label errors.' in before
    assert 'id="label_errors"' in before
    assert "outliers" not in before
    assert "<summary>2: outliers, missing values</summary>" in folded
    assert folded.index('id="missing_values"') < folded.index("</details>")
    terminal.print_report(audited)
    lines = capsys.readouterr().out.splitlines()
    assert lines[3:5] == [
        f"medium   label_errors: {SEEN}",
        "Looked for, not found (2): outliers, missing_values",
    ]


def test_the_verdict_is_of_the_worst_findings(iris):
    low = finding(name="outliers", severity="low")
    unknown = finding(name="more_data", severity="unknown")
    none = finding(name="missing_values", severity="none")
    assert report(iris, low, none).verdict() == "Nothing that has to be acted on was found; good to know: outliers."
    assert report(iris, none, unknown).verdict() == "Nothing was found by 1 check; 1 could not judge."
    assert report(iris, unknown).verdict() == "None of the questions could be judged."
    many = [finding(name=f"number_{n}", severity="high") for n in range(6)]
    assert report(iris, *many).verdict().endswith("number 0, number 1, number 2, number 3 and 2 more.")
