"""Whether every fault of refused.yaml is refused, by both Helms, in the sentence that stands there.

    refused.py CHART KUBERNETES
"""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

chart, kubernetes = sys.argv[1:]


def complaint(helm, case):
    """What is wrong with how this Helm takes the case, or nothing."""
    command = [helm, "template", "refused", chart, "--kube-version", kubernetes]
    if "base" in case:
        command += ["--values", f"{chart}/ci/{case['base']}-values.yaml"]
    values = json.dumps(case["values"])
    run = subprocess.run([*command, "--values", "-"], input=values, capture_output=True, text=True)
    if run.returncode == 0:
        return f"{helm} accepts {values}"
    if case["says"] not in run.stderr:
        return f"{helm} refuses {values}\n  not with: {case['says']}\n  but with: {run.stderr.strip()}"
    return None


cases = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
with ThreadPoolExecutor() as pool:
    runs = [pool.submit(complaint, helm, case) for case in cases for helm in ("helm3", "helm4")]
complaints = [run.result() for run in runs if run.result()]
if complaints:
    sys.exit("\n".join(complaints))
print(f"{len(cases)} faulty values are refused by both")
