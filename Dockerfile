# The `kryonix` command with the program it runs: the signup service, its worker, and the exporter.
#   docker build --tag kryonix .                         from the official Python image and the package index
#   docker build --tag kryonix --target with-pulumi .    with the Pulumi CLI, for a worker in production
# scripts/images builds it too: with wheels that it has downloaded, and where no registry answers on Debian's Python.
ARG PYTHON_IMAGE=python:3.13-slim-trixie
ARG PULUMI_IMAGE=pulumi/pulumi-base:3.272.0

FROM ${PYTHON_IMAGE} AS packages
LABEL br.com.kryonix.image.stage=packages
WORKDIR /srv/kryonix
COPY requirements-production.txt wheel[s]/* /wheels/
# Every file's hash is checked, wherever it comes from; none is built. Debian's Python has no pip: it is among the wheels.
RUN python3 -m venv --without-pip .venv \
    && if ls /wheels/*.whl >/dev/null 2>&1; then export PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels; fi \
    && PYTHONPATH="$(echo /wheels/pip-*.whl)" python3 -m pip --python .venv/bin/python install --no-cache-dir \
        --disable-pip-version-check --quiet --require-hashes --no-deps --only-binary :all: \
        --requirement /wheels/requirements-production.txt \
    && echo /srv/kryonix >"$(echo .venv/lib/python3.*/site-packages)/kryonix.pth" \
    && printf '%s\n' '#!/srv/kryonix/.venv/bin/python' 'from kryonix.__main__ import main' 'main()' >.venv/bin/kryonix \
    && chmod a+rx .venv/bin/kryonix \
    && rm -f .venv/bin/activate* .venv/bin/Activate*

FROM ${PYTHON_IMAGE} AS program
LABEL br.com.kryonix.image.stage=program
WORKDIR /srv/kryonix
COPY __main__.py Pulumi.yaml ./
COPY components components
COPY docs/runbooks.md docs/
COPY kryonix kryonix
RUN python3 -m compileall -q --invalidation-mode unchecked-hash components kryonix && chmod -R a+rX,go-w .

FROM ${PYTHON_IMAGE} AS service
# No installer of Python packages stays, and no program that changes the user. Kubernetes checks the user's number.
RUN rm -rf /usr/local/bin/pip* /usr/local/lib/python3.*/ensurepip /usr/local/lib/python3.*/site-packages/pip* \
    && find / -xdev -perm /6000 -type f -exec chmod a-s {} + \
    && echo 'kryonix:x:10001:10001::/var/lib/kryonix:/usr/sbin/nologin' >>/etc/passwd \
    && echo 'kryonix:x:10001:' >>/etc/group \
    && mkdir -p /var/lib/kryonix /var/lib/kryonix-backup /etc/kryonix /srv/kryonix /tls \
    && ln -s /var/lib/kryonix /srv/kryonix/.kryonix \
    && chown 10001:10001 /var/lib/kryonix /var/lib/kryonix-backup /tls
COPY --from=packages /srv/kryonix/.venv /srv/kryonix/.venv
COPY --from=program /srv/kryonix /srv/kryonix
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Kryonix messaging" \
    org.opencontainers.image.description="Isolated RabbitMQ infrastructure for every Kryonix customer" \
    org.opencontainers.image.vendor="Kryonix" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
ENV PATH=/srv/kryonix/.venv/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/var/lib/kryonix \
    KRYONIX_STATE_DIR=/var/lib/kryonix/stacks \
    PYTHONUNBUFFERED=1
WORKDIR /srv/kryonix
USER 10001:10001
EXPOSE 8080 9420
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8080, timeout=4); c.request('GET', '/readyz'); exit(c.getresponse().status != 200)"]
ENTRYPOINT ["kryonix"]
CMD ["signup", "serve", "--workers", "0", "--host", "0.0.0.0"]

FROM ${PULUMI_IMAGE} AS pulumi

FROM packages AS pip
RUN mkdir /pip \
    && if ls /wheels/pip-*.whl >/dev/null 2>&1; then python3 -m zipfile -e /wheels/pip-*.whl /pip; \
       else cp -r "$(python3 -c 'import pip; print(pip.__path__[0])')" /pip/; fi

FROM service AS with-pulumi
COPY --from=pulumi /pulumi/bin/pulumi /pulumi/bin/pulumi-language-python /pulumi/bin/pulumi-language-python-exec /usr/local/bin/
# The CLI asks `python -m pip list` which plugins the program needs.
COPY --from=pip /pip /usr/local/lib/pip
ENV PYTHONPATH=/usr/local/lib/pip

# What a build without --target makes.
FROM service
