-- try_lock_backups --
-- Held by the session: it ends with the process that runs the schedule.
SELECT pg_try_advisory_lock(hashtext('kryonix.backups'), hashtext(%(stack)s)) AS held;

-- record_backup --
-- A failed attempt never replaces a bundle that exists. A success ends the record of earlier failures.
WITH over AS (
    DELETE FROM tenants.backups
    WHERE (stack, kind, subject) = (%(stack)s, %(kind)s, %(subject)s)
      AND outcome = 'failed' AND at < %(at)s AND %(outcome)s = 'created'
)
INSERT INTO tenants.backups AS b (stack, kind, subject, at, address, started_at, bytes, outcome, error)
VALUES (%(stack)s, %(kind)s, %(subject)s, %(at)s, %(address)s, %(started_at)s, %(bytes)s, %(outcome)s, %(error)s)
ON CONFLICT (stack, kind, subject, at) DO UPDATE SET
    address = EXCLUDED.address, started_at = EXCLUDED.started_at, ended_at = EXCLUDED.ended_at,
    bytes = EXCLUDED.bytes, outcome = EXCLUDED.outcome, error = EXCLUDED.error,
    verified_at = NULL, verify_outcome = NULL, verify_error = ''
WHERE b.outcome = 'failed' OR (EXCLUDED.outcome = 'created' AND b.address <> EXCLUDED.address);

-- record_verification --
-- A bundle without a record, as after the loss of the registry, gets one.
INSERT INTO tenants.backups AS b
    (stack, kind, subject, at, address, started_at, ended_at, bytes, outcome, verified_at, verify_outcome, verify_error)
VALUES (%(stack)s, %(kind)s, %(subject)s, %(at)s, %(address)s, %(at)s, %(at)s, %(bytes)s, 'created',
    clock_timestamp(), %(outcome)s, %(error)s)
ON CONFLICT (stack, kind, subject, at) DO UPDATE SET
    address = EXCLUDED.address, bytes = EXCLUDED.bytes, outcome = 'created', error = '',
    verified_at = EXCLUDED.verified_at, verify_outcome = EXCLUDED.verify_outcome, verify_error = EXCLUDED.verify_error;

-- forget_backup --
DELETE FROM tenants.backups
WHERE (stack, kind, subject, at) = (%(stack)s, %(kind)s, %(subject)s, %(at)s);

-- fetch_newest_backups --
-- One row per subject with a record or an expectation.
WITH made AS (
    SELECT stack, kind, subject,
        max(at) FILTER (WHERE outcome = 'created') AS created,
        max(at) FILTER (WHERE verify_outcome = 'verified') AS verified,
        (array_agg(bytes ORDER BY at DESC) FILTER (WHERE outcome = 'created'))[1] AS bytes,
        (array_agg(error ORDER BY ended_at DESC))[1] AS error,
        coalesce((array_agg(verify_error ORDER BY verified_at DESC) FILTER (WHERE verified_at IS NOT NULL))[1], '')
            AS verify_error
    FROM tenants.backups
    GROUP BY stack, kind, subject
)
SELECT stack, kind, subject, created, verified, bytes, coalesce(error, '') AS error,
    coalesce(verify_error, '') AS verify_error, since AS expected_since, seen_at
FROM made FULL JOIN tenants.backup_schedules USING (stack, kind, subject)
WHERE %(stack)s::text IS NULL OR stack = %(stack)s
ORDER BY stack, kind, subject;

-- fetch_verifications --
SELECT stack, kind, subject, at, verify_outcome
FROM tenants.backups
WHERE stack = %(stack)s AND verify_outcome IS NOT NULL;

-- fetch_made --
SELECT kind, subject, address, bytes, coalesce(verify_outcome = 'verified', false) AS verified,
    coalesce(verify_outcome = 'failed', false) AS verify_failed
FROM tenants.backups
WHERE (stack, at) = (%(stack)s, %(at)s) AND outcome = 'created';

-- expect_backups --
-- Subjects that are gone are no longer expected.
WITH subjects AS (
    SELECT * FROM unnest(%(kinds)s::text[], %(subjects)s::text[]) AS s (kind, subject)
), gone AS (
    DELETE FROM tenants.backup_schedules
    WHERE stack = %(stack)s AND (kind, subject) NOT IN (SELECT kind, subject FROM subjects)
)
INSERT INTO tenants.backup_schedules (stack, kind, subject)
SELECT %(stack)s, kind, subject FROM subjects
ON CONFLICT (stack, kind, subject) DO UPDATE SET seen_at = clock_timestamp();
