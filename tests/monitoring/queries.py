"""Whether rules and dashboard ask for what there is: each query is asked of a Prometheus that has scraped a real run, each
metric is in the table of docs/operations.md, and the dashboard can be drawn."""

import json
import pathlib
import re
import subprocess

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
METRIC = r"(?:superserve|process|job|job_route|up|ALERTS)(?::\w+)*\w*"
SELECTOR = re.compile(r"([a-zA-Z_][\w:]*)\{([^{}]*)\}")
# What Grafana fills in
VARIABLES = {"$__rate_interval": "10s", "$__range": "2m", "$namespace": ".*", "$replica": ".*"}


def fail(text):
    raise SystemExit(text)


def dashboard():
    return json.loads((ROOT / "helm/superserve-secrets/files/dashboard.json").read_text())


def filled(expression):
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    return expression


def exceptions():
    """Metrics that the run cannot have, each with its reason."""
    lines = (HERE / "exceptions.txt").read_text().splitlines()
    return dict(line.split(": ", 1) for line in lines if line and not line.startswith("#"))


def drawable(board):
    """Grafana takes much; a panel without what is asked for here is shown wrong, or not at all."""
    panels = board["panels"]
    for of in "id", "title":
        values = [panel[of] for panel in panels]
        if len(set(values)) != len(values):
            fail(f"dashboard: two panels have the same {of}")
    taken = {}
    for panel in panels:
        place, title = panel["gridPos"], panel["title"]
        if not (0 <= place["x"] and place["x"] + place["w"] <= 24 and place["w"] > 0 and place["h"] > 0):
            fail(f"dashboard: {title} is outside the grid")
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                if other := taken.get((x, y)):
                    fail(f"dashboard: {title} lies on {other}")
                taken[x, y] = title
        if panel["type"] == "row":
            continue
        if panel["datasource"] != {"type": "prometheus", "uid": "${datasource}"}:
            fail(f"dashboard: {title} has a data source of its own")
        if not panel["fieldConfig"]["defaults"].get("unit"):
            fail(f"dashboard: {title} has no unit")
        references = [target["refId"] for target in panel["targets"]]
        if not references or len(set(references)) != len(references):
            fail(f"dashboard: {title} has no query, or two of one name")


def asked(prometheus):
    """All queries: of panels, with whether they have to have an answer, and of rules, which may have none."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            yield f"panel {panel['title']!r} {target['refId']}", filled(target["expr"]), True
    for group in prometheus.ask("rules")["groups"]:
        for rule in group["rules"]:
            if rule["health"] != "ok":
                fail(f"rule {rule['name']}: {rule.get('lastError', rule['health'])}")
            yield f"rule {rule['name']}", rule["query"], rule["type"] == "recording"


def has_value(series):
    return any(value != "NaN" for one in series for _, value in one["values"])


def answered(prometheus):
    """Each query is evaluated, and each of its selectors finds series. Returns the exceptions that were needed."""
    allowed, needed = exceptions(), set()
    for where, query, must_answer in asked(prometheus):
        answer = prometheus.range(query)
        selectors = SELECTOR.findall(query)
        left = SELECTOR.sub("", query)
        if not selectors or re.search(r"\b(superserve|process|job\w*:)\w*", left):
            fail(f"{where}: a metric without braces, where no namespace can be put in: {left}")
        excused = False
        for name, matchers in selectors:
            if not prometheus.ask("series", **{"match[]": f"{name}{{{matchers}}}", "start": prometheus.began}):
                if name not in allowed:
                    fail(f"{where}: there is no {name}{{{matchers}}}")
                needed.add(name)
                excused = True
        if must_answer and not excused and not has_value(answer):
            fail(f"{where}: no answer to {query}")
    return needed


def families(text):
    """The metrics of an answer of /metrics: name to type and labels."""
    found = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            name, kind = line.split()[2:]
            found[name] = (kind, set())
        elif not line.startswith("#"):
            series = re.match(r"(\w+)(?:\{(.*)\})? ", line)
            name = next(name for name in (re.sub(suffix, "", series[1]) for suffix in
                        ("$", "_total$", "_info$", "_(bucket|sum|count)$")) if name in found)
            found[name][1].update(re.findall(r'(\w+)="', series[2] or ""))
    endings = {"counter": "_total", "info": "_info"}
    return {name + endings.get(kind, ""): (kind, labels - {"le"}) for name, (kind, labels) in found.items()}


def documented(metrics):
    """The table has what there is, and nothing else. Returns the exceptions that were needed."""
    there = {}
    for text in metrics:
        for name, (kind, labels) in families(text).items():
            there.setdefault(name, (kind, set()))[1].update(labels)
    table = {}
    for line in (ROOT / "docs/operations.md").read_text().splitlines():
        if row := re.match(r"\| `((?:superserve|process)_\w+)` \| (\w+) \| ([^|]*) \| [^|]+ \| [^|]+ \|$", line):
            table[row[1]] = (row[2], set(re.findall(r"`(\w+)`", row[3])))
    for name, told in there.items():
        if table.get(name) != told:
            fail(f"docs/operations.md: {name} is {told}, and the table of metrics says {table.get(name)}")
    if unknown := set(table) - set(there) - set(exceptions()):
        fail(f"docs/operations.md: there is no {unknown}")
    return set(table) - set(there)


def linted(text):
    """promtool's judgement, of the older text format, as it does not read OpenMetrics."""
    kinds = {line.split()[2]: line.split()[3] for line in text.splitlines() if line.startswith("# TYPE ")}
    lines = []
    for line in text.splitlines():
        if line.startswith(("# HELP ", "# TYPE ")):
            words = line.split(" ", 3)
            words[2] += {"counter": "_total", "info": "_info"}.get(kinds[words[2]], "")
            lines.append(" ".join(words).replace(" info", " gauge") if words[1] == "TYPE" else " ".join(words))
        elif not line.startswith("#"):
            lines.append(line)
    judged = subprocess.run(["promtool", "check", "metrics"], input="\n".join(lines) + "\n", text=True, capture_output=True)
    if judged.returncode or judged.stdout or judged.stderr:
        fail(f"promtool check metrics: {judged.stdout}{judged.stderr}")


def alerts_explained(prometheus):
    """Each alert has a row in the section that it points to, and a test."""
    guide = (ROOT / "docs/operations.md").read_text()
    tests = (HERE / "rules_test.yaml").read_text()
    rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"] if rule["type"] == "alerting"]
    headings = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in re.findall(r"^#+ (.*)$", guide, re.M)}
    for rule in rules:
        name, (page, anchor) = rule["name"], rule["annotations"]["runbook"].split("#")
        if page != "docs/operations.md" or anchor not in headings:
            fail(f"{name}: there is no {page}#{anchor}")
        if rule["labels"]["severity"] not in ("critical", "warning"):
            fail(f"{name}: severity {rule['labels']['severity']}")
        if f"`{name}`" not in guide:
            fail(f"docs/operations.md: says nothing of {name}")
        if name not in tests:
            fail(f"rules_test.yaml: no test of {name}")
    told = set(re.findall(r"`(SuperserveSecrets[A-Z]\w+)`", guide))
    if unknown := told - {rule["name"] for rule in rules}:
        fail(f"docs/operations.md: there is no alert {unknown}")


def check(prometheus, metrics):
    drawable(dashboard())
    needed = answered(prometheus)
    for text in metrics:
        linted(text)
    needed |= documented(metrics)
    alerts_explained(prometheus)
    if stale := set(exceptions()) - needed:
        fail(f"exceptions.txt: these are there, so take away their lines: {stale}")
    print(f"{len(list(asked(prometheus)))} queries answered; excused: {len(needed)}")
