"""Whether the schema of the values is closed and speaks of the very values there are.

    closed.py CHART
"""

import json
import sys
from pathlib import Path

import yaml

chart = Path(sys.argv[1])
schema = json.loads((chart / "values.schema.json").read_text())
values = yaml.safe_load((chart / "values.yaml").read_text())
values["global"] = {}  # Helm adds it for a chart that has this one as a part


def resolve(node):
    return schema["$defs"][node["$ref"].split("/")[-1]] if "$ref" in node else node


def open_objects(node, path):
    """Objects with keys of ours that take others too."""
    node = resolve(node) if isinstance(node, dict) else {}
    if "properties" in node and "additionalProperties" not in node:
        yield path
    for key, child in node.get("properties", {}).items():
        yield from open_objects(child, f"{path}.{key}")
    if "items" in node:
        yield from open_objects(node["items"], f"{path}[]")


def unlike(node, value, path):
    """Keys that only one of schema and values has. Of what Kubernetes knows `values.yaml` names a part."""
    node = resolve(node)
    if node.get("additionalProperties") is not False or node.get("description") == "As Kubernetes has it":
        return
    properties = node["properties"]
    for key in properties.keys() ^ (value or {}).keys():
        yield f"{path}{key}: only in {'the schema' if key in properties else 'values.yaml'}"
    for key in properties.keys() & (value or {}).keys():
        if isinstance(value[key], dict) and value[key]:
            yield from unlike(properties[key], value[key], f"{path}{key}.")


faults = [f"{path}: takes any key" for path in open_objects(schema, "values")]
faults += unlike(schema, values, "")
if faults:
    sys.exit("\n".join(faults))
