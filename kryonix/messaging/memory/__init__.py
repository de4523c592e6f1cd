"""A broker in memory, for tests of applications: the topology, the retries and the limits of the real one."""
