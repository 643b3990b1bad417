"""The part of JSON Schema that SAEBench's schemas use."""

KINDS = {
    "string": str, "integer": int, "number": int | float, "boolean": bool, "array": list,
    "object": dict, "null": type(None),
}  # fmt: skip


def faults(value, schema, root, place="result"):
    """What is wrong with a value, each with its place."""
    if "$ref" in schema:
        return faults(value, root["$defs"][schema["$ref"].split("/")[-1]], root, place)
    if "anyOf" in schema:
        tried = [faults(value, each, root, place) for each in schema["anyOf"]]
        return [] if any(not each for each in tried) else tried[0]
    kind = schema.get("type")
    if kind is not None and (
        not isinstance(value, KINDS[kind]) or (kind != "boolean" and isinstance(value, bool))
    ):
        return [f"{place} is {value!r}, expected {kind}"]
    found = []
    if kind == "object":
        known = schema.get("properties", {})
        found += [f"{place} lacks {key}" for key in schema.get("required", []) if key not in value]
        if known:
            found += [f"{place} has an unknown {key}" for key in value if key not in known]
        for key, each in known.items():
            if key in value:
                found += faults(value[key], each, root, f"{place}.{key}")
    if kind == "array":
        for i, each in enumerate(value):
            found += faults(each, schema.get("items", {}), root, f"{place}[{i}]")
    return found
