"""The report page in a real browser: content, security, sorting, colours, phones, figures."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from delta.analysis.recommendation import Candidate
from delta.io.errors import UserError
from delta.report import captions
from delta.report.differences import COLUMNS as DIFFERENCES
from delta.report.inline_pictures import LARGEST_SVG
from delta.report.page import Run, write_page
from tests.helpers.grids import with_values
from tests.helpers.report_project import DATASETS, report, write_best, write_project

METHODS = ["l2_fe", "l2", "l2_sp", "l2_sp_att", "delta_wo_att", "delta"]
LABELS = dict(zip(METHODS, ["L2-FE", "L2", "L2-SP", "L2-SP(ATT)", "DELTA(w/o ATT)", "DELTA"], strict=True))
NAMES = {
    "stanford_dogs_120": "Stanford Dogs 120",
    "mit_indoors_67": "MIT Indoors 67",
    "caltech256_60": "Caltech 256-60",
    "cub_200_2011": "CUB-200-2011",
    "food_101": "Food-101",
    "my_birds": "my_birds",
    "resnet101": "ResNet-101",
    "inception_v3": "Inception-V3",
}
# Places365 weights are published only for ResNet-50.
OF_MIT = {"resnet101": "ResNet-50, Places365", "inception_v3": "Inception-V3, ImageNet"}
TABLE = [
    "dataset",
    "backbone",
    "method",
    "method_label",
    "source_network",
    "mean",
    "std",
    "macro",
    "seeds",
    "paper_mean",
    "paper_std",
    "difference",
    "low",
    "high",
    "p",
    "p_holm",
]
CURVES = ["dataset", "backbone", "method", "schedule", "seed", "epoch", "top1", "drop_epoch"]
GRID = ["dataset", "backbone", "method", "alpha", "beta", "fold", "top1", "problem"]
SHARES = ["dataset", "backbone", "stage", "seed", "filters", "share", "reach"]
TABLES = "section:not(#differences) table"
ATTACK = "<script>alert(1)</script> & </pre><img src='https://example.org/x'>"
NAN = float("nan")

DELTA = Candidate(backbone="resnet101", method="delta", label="DELTA", alpha=0.01, folds=5, top1=80.0, macro=80.0)

# Top-1 of the small page, and the difference to L2-SP with its interval; only of L2-SP(ATT) and DELTA it excludes 0.
SMALL = {
    "l2_fe": (72.3333, 2.0207, -3.6667, -8.5, 1.2),
    "l2": (77.8333, 1.893, 1.8333, -2.9, 6.5),
    "l2_sp": (76.0, 0.0, NAN, NAN, NAN),
    "l2_sp_att": (74.6667, 0.5, -1.3333, -2.6, -0.04),
    "delta_wo_att": (78.6667, 2.9, 2.6667, -4.5, 9.8),
    "delta": (79.1667, 0.3, 3.1667, 1.9, 4.5),
}


def a_run(datasets: list[str], backbones: list[str], seeds: int) -> Run:
    return Run(
        profile="made up",
        datasets={key: {"format": "folder", "train_per_class": 30} for key in datasets},
        backbones={key: {"resize": 256, "crop": 224} for key in backbones},
        methods=list(LABELS.values()),
        seeds=range(seeds),
        fixed={"delta": (0.01, 0.01)},
        scale="sum",
        parameters=f"seeds: [0]  # {ATTACK}\n",
        versions={"torch": "2.14.1"},
        machine={"Processor": "a made-up one", "Cores": "2"},
        commit="0123abc",
        run_times={},
        times=[("split", 1, 4.24), ("train", 15, 312.4), ("grid", 30, 3900.0), ("report", 1, 0.5)],
        recommended_in={},
        notes=[ATTACK, "The slice: 60 iterations instead of 9,000."],
    )


def write_plots(reports: Path, pairs: list[tuple[str, str]]) -> None:
    """Write Figures 3 to 5 of every pair with their data; the pictures have a size but no content."""
    curves, grid, shares, figures = [], [], [], ["forest", "accuracy"]
    for pair in pairs:
        for seed in (0, 1, 2):
            for method, first in (("l2_sp", 63.5 + seed), ("delta", 69.7 + 1.1 * seed)):
                curves += [(*pair, method, "StepLR", seed, epoch, first + epoch - 1, 1.5) for epoch in (1, 2.5)]
            for stage, filters, share in (("conv2_x", 400, 84.0), ("conv5_x", 3600, 92.0), ("all", 4000, 91.2)):
                shares.append((*pair, stage, seed, filters, share + seed, 4 + 0.1 * seed))
        for alpha, top1 in ((0.01, [88.0, 89.0]), (0.1, [88.9, 88.9]), (0.2, [99.0, NAN])):
            grid += [(*pair, "delta", alpha, 0.01, fold, value, NAN) for fold, value in enumerate(top1)]
        figures += [f"figure{number}-{pair[0]}-{pair[1]}" for number in (3, 4, 5)]
    for name, rows, columns in (
        ("learning_curves", curves, CURVES),
        ("grid", grid, GRID),
        ("filter_shares", shares, SHARES),
    ):
        table = pd.DataFrame(rows, columns=columns)
        table = with_values(table) if name == "grid" else table
        table.to_csv(reports / "plots" / f"{name}.csv", index=False)
    for name in figures:
        Image.new("RGB", (1200, 300), "white").save(reports / "figures" / f"{name}.png")
        svg = '<svg xmlns="http://www.w3.org/2000/svg" width="576pt" height="144pt"><style>*{fill:red}</style></svg>'
        (reports / "figures" / f"{name}.svg").write_text(svg)


def folders(reports: Path) -> Path:
    for name in ("tables", "plots", "figures"):
        (reports / name).mkdir(parents=True)
    return reports


def differences(table: pd.DataFrame, comparison: str, width: float, seeds: int) -> pd.DataFrame:
    """The differences of all means of a table, each ± the width; p is 0.01 where that excludes 0."""
    rows = []
    for pair, block in table.groupby(["dataset", "backbone"], sort=False):
        means = block.set_index("method")["mean"]
        for other, method in combinations(means.index, 2):
            points = means[method] - means[other]
            interval = (points - width, points + width) if seeds > 2 else (NAN, NAN)
            p = NAN if seeds < 3 else 0.01 if abs(points) > width else 0.3
            keys = (*pair, comparison, method, other, LABELS[method], LABELS[other])
            rows.append((*keys, points, *interval, p, p, seeds, 200))
    return pd.DataFrame(rows, columns=DIFFERENCES)


def write_small(reports: Path, seeds: int = 3) -> Path:
    """Write a report of one data set that is not in the paper: Table 1 and the figures."""
    rows = []
    for method, (mean, std, difference, low, high) in SMALL.items():
        significant = method in ("l2_sp_att", "delta")
        interval = (low, high, *[0.01 if significant else 0.3] * 2) if seeds > 2 else [NAN] * 4
        keys = ("drawn_30", "efficientnet_lite0", method, LABELS[method], "EfficientNet-Lite0, ImageNet")
        rows.append((*keys, mean, std, NAN, seeds, NAN, NAN, difference, *interval))
    table = pd.DataFrame(rows, columns=TABLE).assign(cells=0, device="cpu")
    table.to_csv(folders(reports) / "tables" / "table1.csv", index=False)
    differences(table, "table1", 2, seeds).to_csv(reports / "tables" / "differences.csv", index=False)
    write_plots(reports, [("drawn_30", "efficientnet_lite0")])
    write_page(reports / "report.html", reports, a_run(["drawn_30"], ["efficientnet_lite0"], seeds))
    return reports / "report.html"


def write_full(reports: Path) -> Path:
    """Write a report of six data sets, including one of the user's own, and two backbones, with Tables 1 and 2."""
    number = random.Random(0)
    datasets, backbones, compared = list(NAMES)[:6], list(NAMES)[6:], []
    for table in (1, 2):
        rows = []
        for dataset in datasets:
            for backbone in backbones:
                for method in METHODS if table == 1 else ["l2", "l2_sp", "l2_sp_att", "delta"]:
                    mean, difference = round(number.uniform(60, 95), 4), round(number.uniform(-3, 3), 4)
                    p = [0.01 if abs(difference) > 1 else 0.3] * 2
                    change = [NAN] * 5 if method == "l2_sp" else [difference, difference - 1, difference + 1, *p]
                    paper = [NAN, NAN] if dataset == "my_birds" else [round(number.uniform(60, 95), 1), 0.2]
                    source = OF_MIT[backbone] if dataset == "mit_indoors_67" else f"{NAMES[backbone]}, ImageNet"
                    rows.append((dataset, backbone, method, LABELS[method], source, mean, 0.3, NAN, 5, *paper, *change))
        (reports if table == 2 else folders(reports)).joinpath("tables").mkdir(exist_ok=True)
        frame = pd.DataFrame(rows, columns=TABLE).assign(cells=0, device="cpu")
        frame.to_csv(reports / "tables" / f"table{table}.csv", index=False)
        compared.append(differences(frame, f"table{table}", 1, 5))
    pd.concat(compared).to_csv(reports / "tables" / "differences.csv", index=False)
    write_plots(reports, [(dataset, backbone) for dataset in datasets for backbone in backbones])
    write_page(reports / "report.html", reports, a_run(datasets, backbones, 5))
    return reports / "report.html"


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("pages")
    interpretability = report(write_project(root / "interpretability")) / "index.html"
    recommended = write_project(root / "best", with_analyses=False, recommended=DATASETS)
    for dataset in DATASETS:
        write_best(recommended, dataset, [DELTA])
    return {
        "small": write_small(root / "small"),
        "full": write_full(root / "full"),
        "interpretability": interpretability,
        "best": report(recommended) / "index.html",
    }


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    driver = shutil.which("chromedriver")
    if driver is None:
        reason = "there is no chromedriver: install chromium and chromium-driver to test the report in a browser"
        pytest.fail(reason) if os.environ.get("REQUIRE_CHROMIUM") else pytest.skip(reason)
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    yield chrome
    chrome.quit()


@pytest.fixture(params=["small", "full"])
def either(request, browser, pages) -> webdriver.Chrome:
    return opened(browser, pages[request.param])


@pytest.fixture(params=["small", "full", "interpretability", "best"])
def every(request, browser, pages) -> webdriver.Chrome:
    return opened(browser, pages[request.param])


@pytest.fixture
def interpretability(browser, pages) -> webdriver.Chrome:
    return opened(browser, pages["interpretability"])


@pytest.fixture
def small(browser, pages) -> webdriver.Chrome:
    return opened(browser, pages["small"])


@pytest.fixture
def full(browser, pages) -> webdriver.Chrome:
    return opened(browser, pages["full"])


def opened(browser: webdriver.Chrome, page: Path, width: int = 1200, scheme: str = "light") -> webdriver.Chrome:
    screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    preference = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [preference]})
    for log in ("browser", "performance"):
        browser.get_log(log)  # reading a log removes the entries of the previous page
    browser.get(page.as_uri())
    return browser


def open_all(browser: webdriver.Chrome) -> None:
    browser.execute_script("for (const details of document.querySelectorAll('details')) details.open = true")


def decode_all(browser: webdriver.Chrome) -> list[int]:
    """Decode all images and return their natural widths."""
    return browser.execute_async_script(
        "const [done] = arguments, images = [...document.images];"
        "for (const image of images) image.loading = 'eager';"
        "Promise.all(images.map((image) => image.decode()))"
        ".then(() => done(images.map((image) => image.naturalWidth)), () => done([]));"
    )


def cells(browser: webdriver.Chrome, table: int) -> list[list[str]]:
    """The texts of a table's body, including those for screen readers; the table of all differences does not count."""
    return browser.execute_script(
        f"return [...document.querySelectorAll('{TABLES}')[arguments[0]].tBodies[0].rows]"
        ".map((row) => [...row.cells].map((cell) => cell.textContent.trim()))",
        table,
    )


def heading(browser: webdriver.Chrome, table: int, column: int) -> tuple[object, object]:
    header = browser.find_elements(By.CSS_SELECTOR, TABLES)[table].find_elements(By.CSS_SELECTOR, "thead th")[column]
    return header, header.find_element(By.TAG_NAME, "button")


def test_the_page_logs_nothing_and_loads_nothing(every):
    either = every
    open_all(either)
    decode_all(either)
    assert either.execute_script("return performance.getEntriesByType('resource').length") == 0
    messages = [json.loads(entry["message"])["message"] for entry in either.get_log("performance")]
    sent = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    addresses = [request["request"]["url"] for request in sent]
    assert [address for address in addresses if not address.startswith("data:")] == [either.current_url]
    assert [entry for entry in either.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


def test_the_content_security_policy_is_strict(small):
    probe = (
        "const [done] = arguments, image = new Image();"
        "image.onload = () => done('loaded'); image.onerror = () => done('refused');"
        "image.src = document.URL.replace('report.html', 'figures/accuracy.png');"
    )
    assert small.execute_async_script(probe) == "refused"
    assert "Content Security Policy" in small.get_log("browser")[0]["message"]


def test_the_values_of_a_synthetic_result(small):
    assert cells(small, 0) == [
        ["drawn_30", "L2-FE", "72.3 ± 2.0", "−3.7 [−8.5, +1.2]"],
        ["drawn_30", "L2", "77.8 ± 1.9", "+1.8 [−2.9, +6.5]"],
        ["drawn_30", "L2-SP", "76.0 ± 0.0", "–none"],
        ["drawn_30", "L2-SP(ATT)", "74.7 ± 0.5", "−1.3 [−2.6, −0.04]▼ below 0, significant"],
        ["drawn_30", "DELTA(w/o ATT)", "78.7 ± 2.9", "+2.7 [−4.5, +9.8]"],
        ["drawn_30", "DELTA", "79.2 ± 0.3 (best)", "+3.2 [+1.9, +4.5]▲ above 0, significant"],
    ]
    text = small.find_element(By.TAG_NAME, "body").text.replace("\N{NO-BREAK SPACE}", " ")
    for line in (
        "On drawn_30 with EfficientNet-Lite0 DELTA is 3.2 points more accurate than L2-SP, 95 % confidence interval "
        "[+1.2, +5.2].",
        "Of the paper's 31 claims: 5 supported, 1 contradicted, 9 not settled, 16 not judged.",
        "The highest mean top-1 accuracy is that of DELTA on drawn_30 (79.2 %).",
        "DELTA minus L2-SP +3.2 [+1.2, +5.2]\nThe paper: 10 of 12 supported, 1 contradicted",
        "DELTA minus L2-FE +6.8 [+4.8, +8.8]; L2 +1.3 [−0.7, +3.3]; L2-SP +3.2 [+1.2, +5.2]; ",
        "no data set here has the improved view",
        "Accuracy of every method. DELTA is highest with 79.2 %, L2-FE lowest with 72.3 %.",
        # The seeds start at 63.5, 64.5 and 65.5, DELTA's at 69.7, 70.8 and 71.9; all gain 1.5 until epoch 2.5.
        "Test top-1 under StepLR: L2-SP 64.5 % and DELTA 70.8 % after one epoch, L2-SP 66.0 % and DELTA 72.3 % after "
        "2.5 epochs.",
        "The best cell, α = 0.1, β = 0.01, has 88.9 %; the fixed pair α = 0.01, β = 0.01 has 88.5 %, −0.4; "
        "1 of 3 cells diverged.",
        "92.2 % of the 4,000 filters lie farther from their starting point with DELTA than with L2-SP (conv2_x 85 %, "
        "conv5_x 93 %); the paper says about 90 %.",
        "EfficientNet-Lite0 (efficientnet_lite0): resize 256, crop 224",
    ):
        assert line in text
    assert [row[:3] for row in cells(small, 1)] == [
        ["split", "1", "4.2 s"],
        ["train", "15", "5 min 12 s"],
        ["grid", "30", "1 h 05 min"],
        ["report", "1", "0.5 s"],
    ]


def test_the_verdicts_of_a_claim_can_be_opened(small):
    badges = [badge.text[0] for badge in small.find_elements(By.CSS_SELECTOR, ".claims summary .badge")]
    # Tables 1 and 2, Figures 3, 4 and 5, Tables 3 and 4, the maps and what is never judged.
    assert "".join(badges) == "✓?????✗?✓?" + "○○" + "✓○○?" + "○?○" + "✓✓" + "○○○○" + "○○○" + "○○○"
    texts = {badge.text for badge in small.find_elements(By.CSS_SELECTOR, ".claims summary .badge")}
    assert texts == {"✓ Supported", "✗ Contradicted", "? Not settled", "○ Not judged"}
    verdict = small.find_element(By.CSS_SELECTOR, ".verdicts li")
    assert not verdict.is_displayed()
    small.find_element(By.CSS_SELECTOR, ".claims summary").send_keys(Keys.ENTER)
    assert verdict.is_displayed()
    assert verdict.text == "✓ Supported\ndrawn_30, EfficientNet-Lite0\nDELTA minus L2-SP +3.2 [+1.2, +5.2]"
    why = small.find_element(By.CSS_SELECTOR, ".why").text
    assert why.startswith(
        "Abstract, Table 1. Supported where the 95 % confidence interval of the difference, paired by"
    )
    assert "The same rule on the paper's own tables: 10 of 12 supported, 1 contradicted." in why


def test_the_first_figure_is_the_forest_right_after_the_claims(small):
    first = small.find_element(By.CSS_SELECTOR, "figure")
    assert first.text.startswith("Differences of the methods' top-1.")
    sections = small.find_elements(By.CSS_SELECTOR, "main > section")
    assert [section.get_attribute("id") for section in sections[:3]] == ["claims", "differences", "table1"]
    table = small.find_element(By.CSS_SELECTOR, "#differences table")
    assert not table.is_displayed()
    small.find_element(By.CSS_SELECTOR, "#differences summary").send_keys(Keys.ENTER)
    rows = [row.text for row in table.find_elements(By.CSS_SELECTOR, "tbody tr")]
    assert len(rows) == 15
    assert any(row.startswith("Table 1 DELTA L2-SP +3.2 [+1.2, +5.2]▲") for row in rows)


def test_a_loss_is_said_plainly(tmp_path):
    write_small(tmp_path / "reports")
    file = tmp_path / "reports/tables/differences.csv"
    table = pd.read_csv(file)
    table.loc[table["method"] == "delta", ["difference", "low", "high"]] = [-4.0, -5.5, -2.5]
    table.to_csv(file, index=False)
    write_page(tmp_path / "page.html", tmp_path / "reports", a_run(["drawn_30"], ["efficientnet_lite0"], 3))
    page = (tmp_path / "page.html").read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    assert "DELTA is 4.0 points less accurate than L2-SP, 95 % confidence interval [−5.5, −2.5]." in page
    assert page.count("✗</span> Contradicted") > 4


def test_several_data_sets_are_counted_beside_the_paper(full):
    open_all(full)
    claim = full.find_element(By.CSS_SELECTOR, ".claims > li")
    assert re.search(
        r"\n\d+ of 12 supported, \d+ contradicted\nThe paper: 10 of 12 supported, 1 contradicted\n", claim.text
    )
    assert "Over several data sets and backbones it is supported where" in claim.text
    assert len(claim.find_elements(By.CSS_SELECTOR, ".verdicts li")) == 12


def test_html_in_parameters_is_escaped(small):
    assert small.find_element(By.CSS_SELECTOR, ".notes li").text == ATTACK
    open_all(small)
    assert ATTACK in small.find_element(By.TAG_NAME, "pre").text
    assert len(small.find_elements(By.TAG_NAME, "script")) == 1
    assert len(small.find_elements(By.TAG_NAME, "img")) == 5


@pytest.mark.parametrize(
    ("column", "values", "key"),
    [(3, "paper_mean", None), (4, "difference", Keys.ENTER), (4, "difference", Keys.SPACE)],
)
def test_numbers_sort_by_value_with_missing_ones_last(full, column, values, key):
    header, button = heading(full, 0, column)
    table = pd.read_csv(Path(full.current_url.removeprefix("file://")).parent / "tables" / "table1.csv")
    rows = list(table[table["backbone"] == "resnet101"].itertuples())
    known, unknown = ([row for row in rows if pd.isna(getattr(row, values)) is nothing] for nothing in (False, True))
    assert len(unknown) == 6  # the paper's on the user's own data set, or L2-SP's own difference
    for order in ("ascending", "descending", "ascending"):
        button.click() if key is None else button.send_keys(key)
        known = sorted(known, key=lambda row: getattr(row, values), reverse=order == "descending")
        names = NAMES | {"mit_indoors_67": "MIT Indoors 67 (ResNet-50, Places365)"}
        expected = [[names[row.dataset], LABELS[row.method]] for row in known + unknown]
        assert [row[:2] for row in cells(full, 0)] == expected
        assert header.get_attribute("aria-sort") == order
    assert header.find_elements(By.XPATH, "following-sibling::th[@aria-sort] | preceding-sibling::th[@aria-sort]") == []


def test_equal_texts_keep_their_order(full):
    before = cells(full, 1)
    header, button = heading(full, 1, 1)
    button.click()
    methods = sorted(LABELS.values())
    assert cells(full, 1) == sorted(before, key=lambda row: methods.index(row[1]))
    button.click()
    assert cells(full, 1) == sorted(before, key=lambda row: -methods.index(row[1]))
    heading(full, 1, 0)[1].click()
    assert header.get_attribute("aria-sort") is None
    assert [row[0] for row in cells(full, 1)] == sorted((row[0] for row in before), key=str.casefold)


def test_an_unusual_source_network_is_named_everywhere(small, pages):
    assert "source network" not in small.find_element(By.ID, "table1").text
    full = opened(small, pages["full"])
    assert "followed by its source network" in full.find_element(By.ID, "table1").text
    for table, network in enumerate([*OF_MIT.values()] * 2):
        names = list(dict.fromkeys(row[0] for row in cells(full, table)))
        others = [NAMES[key] for key in list(NAMES)[2:6]]
        assert names == ["Stanford Dogs 120", f"MIT Indoors 67 ({network})", *others]
    open_all(full)
    verdicts = {item.text.split("\n")[1] for item in full.find_elements(By.CSS_SELECTOR, ".verdicts li")}
    titles = [title.text for title in full.find_elements(By.CSS_SELECTOR, "figcaption strong")]
    for backbone, network in OF_MIT.items():
        pair = f"MIT Indoors 67 ({network}), {NAMES[backbone]}"
        assert pair in verdicts
        assert f"Figure 3: learning curves, {pair}." in titles
        assert f"Food-101, {NAMES[backbone]}" in verdicts
    assert len(verdicts) == 12


def test_every_figure_has_a_description_and_decodes(either):
    open_all(either)
    pairs = 1 if "small" in either.current_url else 12
    # The PNG's 1200 pixels are 8 inches, as the SVG's 576 points; the picture is 768 CSS pixels wide.
    assert decode_all(either) == [768] * (2 + 3 * pairs)
    images = either.find_elements(By.TAG_NAME, "img")
    assert [image.get_attribute("width") for image in images] == ["768"] * len(images)
    for image in images:
        caption = image.find_element(By.XPATH, "ancestor::figure/figcaption").text
        assert image.get_attribute("alt") == caption.replace("\N{NO-BREAK SPACE}", " ")
        assert len(caption) > 40


def test_only_the_first_data_set_is_open(full):
    closed = full.find_elements(By.CSS_SELECTOR, "#figures details")
    assert [details.text for details in closed] == list(NAMES.values())[1:6]
    assert len(full.find_elements(By.CSS_SELECTOR, "#figures > figure")) == 1 + 3 * 2
    full.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert full.find_elements(By.CSS_SELECTOR, "details:not([open])") == []
    full.execute_script("dispatchEvent(new Event('afterprint'))")
    assert full.find_elements(By.CSS_SELECTOR, "details[open]") == []


@pytest.mark.parametrize("name", ["small", "full", "interpretability"])
def test_a_phone_does_not_scroll_sideways(browser, pages, name):
    page = opened(browser, pages[name], width=360)
    open_all(page)
    assert page.execute_script("return [innerWidth, document.documentElement.scrollWidth]") == [360, 360]
    wide = page.execute_script(
        "const box = document.querySelector('.scroll'); return box.scrollWidth - box.clientWidth"
    )
    assert wide > 0


@pytest.mark.parametrize("name", ["small", "full", "interpretability"])
def test_texts_are_legible_in_both_colour_schemes(browser, pages, name):
    backgrounds = []
    for scheme in ("light", "dark"):
        page = opened(browser, pages[name], scheme=scheme)
        open_all(page)
        colours = page.execute_script(COLOURS)
        assert len(colours) > 100
        assert [text for text, front, back in colours if contrast(front, back) < 4.5] == []
        backgrounds.append(luminance(page.execute_script("return getComputedStyle(document.body).backgroundColor")))
        canvas = page.execute_script("return getComputedStyle(document.querySelector('.canvas')).backgroundColor")
        assert luminance(canvas) == 1.0
    assert backgrounds[0] > 0.8
    assert backgrounds[1] < 0.05


COLOURS = """
const texts = [...document.querySelectorAll("body *")].filter((element) => element.tagName !== "SCRIPT" &&
  [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim()));
return texts.map((element) => {
  let behind = element;
  while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
  return [element.textContent, getComputedStyle(element).color, getComputedStyle(behind).backgroundColor];
});
"""


def luminance(colour: str) -> float:
    """WCAG 2's relative luminance of an opaque CSS colour."""
    assert colour.startswith("rgb(")
    parts = np.array([int(part) for part in re.findall(r"\d+", colour)]) / 255
    return float(np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_the_page_is_accessible(every, pages):
    either = every
    assert either.find_element(By.TAG_NAME, "html").get_attribute("lang") == "en"
    levels = either.execute_script("return [...document.querySelectorAll('h1,h2,h3,h4,h5')].map((h) => +h.tagName[1])")
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    assert either.find_elements(By.CSS_SELECTOR, "th:not([scope]), table:not(:has(caption))") == []
    assert either.find_elements(By.CSS_SELECTOR, "tbody tr:not(:has(th[scope=row]))") == []
    targets = [link.get_attribute("hash") for link in either.find_elements(By.CSS_SELECTOR, "nav a")]
    name = next(name for name, page in pages.items() if page.as_uri() == either.current_url)
    assert len(targets) == {"small": 5, "full": 6, "interpretability": 13, "best": 12}[name]
    assert all(either.find_elements(By.CSS_SELECTOR, target) for target in targets)


@pytest.mark.parametrize("width", [1200, 360])
def test_every_value_is_beside_or_below_its_name(browser, pages, width):
    """A name may have several values; the data sets do."""
    page = opened(browser, pages["full"], width=width)
    lefts = "return [...document.querySelectorAll(arguments[0])].map((item) => item.getBoundingClientRect().left)"
    names, values = (page.execute_script(lefts, f"dl {tag}") for tag in ("dt", "dd"))
    assert len(values) == len(names) + 5 + 1  # six data sets and two backbones
    assert len(set(names)) == len(set(values)) == 1
    assert (names[0] < values[0]) == (width > 1000)


def test_the_text_of_tables_3_and_4(interpretability):
    assert cells(interpretability, 1)[:5] == [
        ["CUB-200-2011", "SRC", "1.500", "5.298"],
        ["CUB-200-2011", "L2", "1.500 ± 0.354", "5.392"],
        ["CUB-200-2011", "L2-SP", "2.250 ± 0.354", "6.258"],
        ["CUB-200-2011", "DELTA(w/o ATT)", "2.125 ± 0.177", "6.241"],
        ["CUB-200-2011", "DELTA", "2.750 ± 0.354 (best)", "6.367"],
    ]
    assert cells(interpretability, 1)[9] == ["ants", "DELTA", "2.750 ± 0.354 (best)", "–none"]
    assert cells(interpretability, 2)[2] == ["antenna", "0", *["–none"] * 5]
    counted = ["1.5 ± 0.7 (49)", "0.0 ± 0.0 (51)", "1.5 ± 0.7 (18)", "0.5 ± 0.7 (44)", "0.0 ± 0.0 (1)"]
    assert cells(interpretability, 4)[1] == ["CUB-200-2011", "DELTA", *counted, "3.5 ± 0.7 (163) (best)", "3.5 ± 0.7"]
    assert cells(interpretability, 5)[:2] == [
        ["L2-SP", "house", "scene", "4", "0.500", "1"],
        ["L2-SP", "dog", "object", "1", "0.250", "2"],
    ]
    text = interpretability.find_element(By.TAG_NAME, "body").text.replace("\N{NO-BREAK SPACE}", " ")
    # Ten claims on Table 1, four on Tables 3 and 4 and three on the maps: two seeds and equal images settle none.
    assert "Of the paper's 31 claims: none supported, none contradicted, 17 not settled, 14 not judged." in text
    assert "Networks are dissected on the annotated images in data/raw/drawn_30/broden instead of Broden's." in text


def test_tables_3_and_4_sort_with_missing_values_last(interpretability):
    open_all(interpretability)
    parts = ["wing", "tail", "antenna"]
    for column, orders in ((1, [parts[::-1], parts]), (2, [["tail", "wing", "antenna"], parts])):
        button = heading(interpretability, 2, column)[1]
        for order in orders:
            button.click()
            assert [row[0] for row in cells(interpretability, 2)] == order
    heading(interpretability, 4, 4)[1].click()  # parts: both of L2-SP's are 0, both of DELTA's 1.5
    assert [row[1] for row in cells(interpretability, 4)] == ["L2-SP", "L2-SP", "DELTA", "DELTA"]


def test_figures_of_maps_are_in_the_papers_order(interpretability):
    open_all(interpretability)
    titles = [title.text for title in interpretability.find_elements(By.CSS_SELECTOR, "#figures figcaption strong")]
    look, little = "what the networks look at", "filters on which the source network activates little"
    matrices = "Confusion matrices: which classes are taken for which"
    assert titles == [
        "Accuracy of every method.",
        f"Figure 1: {look}, CUB-200-2011, ResNet-101.",
        f"Figure 7: {little}, CUB-200-2011, ResNet-101.",
        f"{matrices}, CUB-200-2011, ResNet-101.",
        f"Figure 1: {look}, ants, ResNet-101.",
        f"Figures 6 and 7: {little}, ants, ResNet-101.",
        f"{matrices}, ants, ResNet-101.",
    ]
    captions = [caption.text for caption in interpretability.find_elements(By.CSS_SELECTOR, "#figures figcaption")]
    assert "Filters 7 and 300: of the 204 of 2,048 filters of layer4.2.conv3 that the source" in captions[2]


def test_the_gallery_shows_the_networks_side_by_side(interpretability, browser, pages):
    def texts(selector: str) -> list[str]:
        return [element.text for element in page.find_elements(By.CSS_SELECTOR, f"#gallery {selector}")]

    page = interpretability
    assert texts("> .dataset") == ["ants, ResNet-101"]
    # Sorted by the highest IoU of either network: 0.5 and 0.5, 0.25. Four others and one of three classes are hidden.
    assert [text for text in texts("h5") if text] == ["dog object", "house scene", "head part"]
    assert [text for text in texts(".more > summary") if text] == ["4 more concepts", "1 more class"]
    open_all(page)
    concepts = ["dog object", "house scene", "head part", "null part", "red color", "striped texture", "wood material"]
    assert texts("h5") == concepts * 2
    assert texts(".units figcaption")[:6] == [
        "L2-SP: unit 1, IoU 0.250",
        "DELTA: unit 0, IoU 0.500",
        "L2-SP: unit 4, IoU 0.500",
        "DELTA: not among its 4 best",
        "L2-SP: not among its 5 best",
        "DELTA: unit 1, IoU 0.250",
    ]
    assert decode_all(page).count(448) == 2 * (5 + 4)
    images = page.find_elements(By.CSS_SELECTOR, "#gallery img")
    assert len(images) == 2 * (5 + 4 + 3)
    alternatives = [image.get_attribute("alt") for image in images]
    assert alternatives[0] == "dog: the images on which L2-SP's unit 1 is most active"
    assert all(len(text) > 20 for text in alternatives)
    for width, beside in ((1200, True), (360, False)):
        page = opened(browser, pages["interpretability"], width=width)
        boxes = page.execute_script(
            "return [...document.querySelector('.units').children].map((unit) => unit.getBoundingClientRect())"
        )
        assert (boxes[0]["top"] == boxes[1]["top"]) == beside
        assert (boxes[0]["left"] < boxes[1]["left"]) == beside


def test_captions_count_every_pair_and_name_all_ties():
    rows = [
        ("a", "resnet101", "delta", 80.0),
        ("a", "resnet101", "l2", 79.0),
        ("a", "inception_v3", "delta", 81.0),
        ("a", "inception_v3", "l2", 82.5),
        ("b", "resnet101", "delta", 70.0),
        ("b", "resnet101", "l2", 70.0),
        ("b", "resnet101", "l2_fe", 65.0),
        ("c", "resnet101", "delta", 60.0),
    ]
    table = pd.DataFrame(rows, columns=["dataset", "backbone", "method", "mean"])
    table = table.assign(paper_mean=NAN, source_network="a net")
    assert captions.best_methods(table) == (
        "The highest mean top-1 accuracy is that of L2 on a (82.5 %, Inception-V3) and b (70.0 %, ResNet-101); "
        "DELTA on b (70.0 %, ResNet-101) and c (60.0 %, ResNet-101)."
    )
    other = table.assign(source_network=["another net" if name == "c" else "a net" for name in table["dataset"]])
    assert captions.best_methods(other).endswith("DELTA on b (70.0 %, ResNet-101) and c (60.0 %, another net).")
    assert captions.accuracy(table, None) == "Of 4 comparisons the highest mean is that of DELTA in 3 and L2 in 2."
    single = table[table["dataset"] == "b"]
    assert captions.accuracy(table[:2], single) == (
        "DELTA is highest with 80.0 %, L2 lowest with 79.0 %. With the improved view: "
        "DELTA and L2 are highest with 70.0 %, L2-FE lowest with 65.0 %."
    )


@pytest.mark.parametrize(
    ("fixed", "top1", "caption"),
    [
        (0.01, [80.0, 79.0], "has 80.0 %; the fixed pair α = 0.01, β = 0 is that cell; none of 2 cells diverged."),
        (
            0.02,
            [80.0, 79.0],
            "has 80.0 %; the fixed pair α = 0.02, β = 0 is not in the grid; none of 2 cells diverged.",
        ),
        (0.1, [80.0, NAN], "has 80.0 %; the fixed pair α = 0.1, β = 0 diverged; 1 of 2 cells diverged."),
        (0.1, [NAN, NAN], "All of the 2 cells diverged."),
    ],
)
def test_the_caption_of_the_grid_ranks_the_fixed_pair(fixed, top1, caption):
    rows = [("a", "net", "delta", alpha, 0.0, 0, value, NAN) for alpha, value in zip((0.01, 0.1), top1, strict=True)]
    text = captions.grid_search(with_values(pd.DataFrame(rows, columns=GRID)), (fixed, 0.0))
    assert text.removeprefix("The best cell, α = 0.01, β = 0, ") == caption


def test_the_page_names_its_profile(small):
    assert small.title == "DELTA, reproduced: made up"
    assert small.find_element(By.CSS_SELECTOR, "h1 + p").text == "Made up"


def test_two_seeds_have_no_interval_on_the_page(tmp_path):
    page = write_small(tmp_path / "reports", seeds=2).read_text(encoding="utf-8")
    assert "The difference to L2-SP is paired by test image and seed; two seeds give no interval." in page
    assert "▲" not in page.partition('id="table1"')[2].partition("</table>")[0]


def test_a_large_figure_is_shown_as_png(tmp_path):
    page = write_small(tmp_path / "reports")
    assert page.read_text(encoding="utf-8").count("data:image/png") == 0
    with (tmp_path / "reports/figures/accuracy.svg").open("a") as file:
        file.write(" " * LARGEST_SVG)
    write_page(page, tmp_path / "reports", a_run(["drawn_30"], ["efficientnet_lite0"], 3))
    assert page.read_text(encoding="utf-8").count("data:image/png") == 1


def test_missing_figures_and_tables_are_omitted(tmp_path):
    reports = tmp_path / "reports"
    write_small(reports)
    shutil.rmtree(reports / "figures")
    shutil.rmtree(reports / "plots")
    write_page(reports / "report.html", reports, a_run(["drawn_30"], ["efficientnet_lite0"], 3))
    page = (reports / "report.html").read_text(encoding="utf-8")
    assert "<img" not in page
    assert 'id="figures"' not in page
    assert "no grid search for DELTA in this run" in page


def test_a_missing_table_1_is_one_error_line(tmp_path):
    run = a_run(["drawn_30"], ["efficientnet_lite0"], 3)
    with pytest.raises(UserError, match=r"table1\.csv: no results there, and the report needs them: run `dvc repro`$"):
        write_page(tmp_path / "report.html", tmp_path, run)
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "table1.csv").write_text("")
    with pytest.raises(UserError, match=r"table1\.csv: not a table \(.*\): run `dvc repro`$"):
        write_page(tmp_path / "report.html", tmp_path, run)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "column", "stage"), [("tables/table1", "source_network", "tables"), ("plots/grid", "fold", "figures")]
)
def test_a_report_of_an_older_version_is_named(tmp_path, name, column, stage):
    write_small(tmp_path / "reports")
    file = tmp_path / "reports" / f"{name}.csv"
    pd.read_csv(file).drop(columns=column).to_csv(file, index=False)
    message = rf"{name}\.csv: no column {column}, an older version wrote it: run `dvc repro {stage}`$"
    with pytest.raises(UserError, match=message):
        write_page(tmp_path / "report.html", tmp_path / "reports", a_run(["drawn_30"], ["efficientnet_lite0"], 3))
