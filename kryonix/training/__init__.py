"""Train and judge routing models. It needs numpy and LightGBM: the extra `router`."""
