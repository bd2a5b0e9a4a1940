"""``convexnn safe``: a classifier that is proved safe on a whole region."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from convexnn.cli.data import load_data
from convexnn.cli.describe import data_record, network_record
from convexnn.cli.output import Output
from convexnn.cli.regions import read_region
from convexnn.decimals import written
from convexnn.exceptions import InvalidInputError


def safe(arguments: Namespace, output: Output) -> int:
    """Train under the proof, write network and proof, and say how much is accepted outside."""
    from convexnn.estimators import SafeRegionClassifier

    for name in (arguments.output, arguments.certificate):
        if not Path(name).absolute().parent.is_dir():
            raise InvalidInputError(f"There is no folder {Path(name).parent} to write {Path(name).name} into.")
    data = load_data(arguments.data, target=arguments.target)
    region = read_region(arguments, data.X.shape[1])
    output.say(f"{data}.")
    model = SafeRegionClassifier(
        region,
        arguments.hidden_units,
        safe_class=arguments.safe_class,
        max_iter=arguments.max_iter,
        time_limit=arguments.time_limit,
        random_state=arguments.seed,
        verbose=int(arguments.verbose),
    )
    with output.working("training"):
        model.fit(data.X, data.y)
    bound, right = model.check(), model.predict(data.X) == data.y
    inside = region.contains(data.X)
    accept = data.y != model.safe_class_
    accepted = float(right[accept].mean()) if accept.any() else float("nan")
    network, proof = model.safe_network_, model.region_certificate_
    files = network.save(arguments.output), proof.save(arguments.certificate)
    output.result(
        data=data_record(data),
        network={**network_record(network), "file": files[0]},
        certificate=files[1],
        region={"kind": region.kind, "center": region.center, "axes": region.axes},
        safe_class=model.safe_class_.item(),
        bound=bound,
        accuracy=float(right.mean()),
        accepted=accepted,
        unreachable=model.n_unreachable_,
        samples_inside=int(inside.sum()),
    )
    output.say(f"f <= {written(bound, 6)} < 0 on the whole {region.kind}: class {model.safe_class_} there, proved")
    output.say(f"accuracy on these rows {right.mean():.4f}; of the other class {accepted:.4f} are accepted")
    output.say(f"network: {files[0]} (positive: the other class)\ncertificate: {files[1]}")
    return 0
