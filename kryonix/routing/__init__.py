"""Routing that learns: what is known of a message before it is sent, the model, its decision, and what ends its use.

Pure, and without any dependency: the SDK imports it. `kryonix.training` makes the models.
"""
