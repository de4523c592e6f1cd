-- registry_identity --
-- Tells this database's server from others: two registries may share a broker.
SELECT to_hex(system_identifier) AS identity FROM pg_control_system();

-- hold_scratch --
-- Locked for the lifetime of the connection.
SELECT pg_try_advisory_lock(hashtextextended('kryonix.scratch ' || %(name)s, 0)) AS held;
