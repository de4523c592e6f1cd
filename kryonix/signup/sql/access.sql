-- insert_api_key --
INSERT INTO signup.api_keys (id, name, scope, hash, expires_at)
VALUES (%(id)s, %(name)s, %(scope)s, %(hash)s, now() + make_interval(days => %(days)s::int));

-- fetch_api_key --
SELECT id, name, scope, hash, created_at, expires_at, revoked_at,
    revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now()) AS valid
FROM signup.api_keys WHERE id = %(id)s;

-- fetch_valid_api_keys --
-- Returns those keys that are valid now.
SELECT id FROM signup.api_keys
WHERE id = ANY(%(ids)s) AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now());

-- fetch_api_keys --
SELECT id, name, scope, created_at, expires_at, revoked_at,
    revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now()) AS valid
FROM signup.api_keys ORDER BY created_at;

-- revoke_api_key --
UPDATE signup.api_keys SET revoked_at = coalesce(revoked_at, clock_timestamp()) WHERE id = %(id)s RETURNING id;

-- insert_audit --
INSERT INTO signup.audit (request_id, key_id, peer, method, path, status, tenant, operation)
VALUES (%(request_id)s, %(key_id)s, %(peer)s, %(method)s, %(path)s, %(status)s, %(tenant)s, %(operation)s);

-- forget_audit --
-- The service's role can't delete audit rows; this function of the owner deletes old ones only.
SELECT signup.forget_audit(%(seconds)s, %(limit)s) AS count;
