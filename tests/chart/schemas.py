"""What kubeconform judges by: a JSON schema for every kind, of each version of Kubernetes that is named.

    schemas.py OUT KINDS VERSION…

The built-in kinds are those of the package kubernetes-validate, the custom ones those of the definitions under KINDS. Both
are written so that nothing has to be looked up elsewhere, and so that an unknown field is a fault.
"""

import json
import sys
from pathlib import Path

import kubernetes_validate
import yaml


class Loader(yaml.CSafeLoader):
    """A plain `=`, one of the operators that the Prometheus operator's kinds take, is a text."""


Loader.add_constructor("tag:yaml.org,2002:value", Loader.construct_yaml_str)


def references(node):
    """The names of all definitions that this part of a schema refers to; the references then point into its own file."""
    if isinstance(node, list):
        return set().union(*map(references, node))
    if not isinstance(node, dict):
        return set()
    names = set()
    for key, value in node.items():
        if key == "$ref" and isinstance(value, str):
            name = value.split("#/$defs/")[-1]
            names.add(name)
            node[key] = f"#/$defs/{name}"
        else:
            names |= references(value)
    return names


def built_in(version):
    """Every kind of Kubernetes itself: file name and schema."""
    folder = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema" / f"v{version}-local-strict"
    definitions = json.loads((folder / "_definitions.json").read_text())["$defs"]
    needs = {name: references(definition) for name, definition in definitions.items()}
    for path in folder.glob("*.json"):
        schema = json.loads(path.read_text())
        if not schema.get("properties", {}).get("kind", {}).get("enum"):
            continue
        schema.pop("$id", None)
        found, new = set(), references(schema)
        while new:
            found |= new
            new = set().union(*(needs[name] for name in new)) - found
        yield path.name, schema | {"$defs": {name: definitions[name] for name in found}}


def close(node):
    """Custom kinds are open by their form alone: the API server drops, or with strict validation refuses, what they lack."""
    if isinstance(node, dict):
        if "properties" in node and not node.get("x-kubernetes-preserve-unknown-fields"):
            node.setdefault("additionalProperties", False)
        for value in node.values():
            close(value)
    elif isinstance(node, list):
        for value in node:
            close(value)


def custom(folder):
    """Every version of every custom kind: file name and schema."""
    for path in sorted(folder.rglob("*.yaml")):
        for document in yaml.load_all(path.read_text(), Loader):
            if not document or document["kind"] != "CustomResourceDefinition":
                continue
            spec = document["spec"]
            for version in spec["versions"]:
                schema = version["schema"]["openAPIV3Schema"]
                close(schema)
                schema["properties"]["metadata"] = {"type": "object"}
                group = spec["group"].split(".")[0]
                yield f"{spec['names']['kind'].lower()}-{group}-{version['name']}.json", schema


def main(out, kinds, *versions):
    customs = list(custom(Path(kinds)))
    for version in versions:
        folder = Path(out) / version
        folder.mkdir(parents=True, exist_ok=True)
        for name, schema in [*built_in(version), *customs]:
            (folder / name).write_text(json.dumps(schema))


main(*sys.argv[1:])
