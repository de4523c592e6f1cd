"""Declare one file per note of the config, and one with a generated password."""

import pulumi
import pulumi_random as random
from note import Note  # type: ignore[import-not-found]  # it lies beside the program, where this runs

config = pulumi.Config()
folder, stack = config.require("folder"), pulumi.get_stack()
made = random.RandomPassword("password", length=24, special=False)
password: pulumi.Output[str] = pulumi.Output.secret(made.result)
for name, text in config.require_object("notes").items():
    Note(name, f"{folder}/{stack}.{name}", text, float(config.require("delay")))
Note("secret", f"{folder}/{stack}.secret", password)
pulumi.export("password", password)
pulumi.export("notes", sorted(config.require_object("notes")))
