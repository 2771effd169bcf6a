# A node for multi-GPU training. Build: docker build -t flexbert .
# Run: docker run --gpus all --ipc=host -v /data:/data -e WANDB_API_KEY flexbert composer main.py ...
# The development base has nvcc, which the flash extra compiles with.
FROM nvidia/cuda:13.0.2-cudnn-devel-ubuntu24.04

RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        build-essential git libibverbs1 make ninja-build python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home flexbert

USER flexbert
WORKDIR /home/flexbert/app
ENV PATH=/home/flexbert/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 UV_COMPILE_BYTECODE=1

# The environment first: it changes less often than the code.
COPY --chown=flexbert requirements.lock ./
RUN python3 -m venv .venv \
    && .venv/bin/python -m pip install --quiet uv \
    && .venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps -r requirements.lock

# FlashAttention builds against the torch just installed, hence no build isolation.
ARG MAX_JOBS=8
COPY --chown=flexbert pyproject.toml README.md LICENSE ./
RUN mkdir flexbert data_prep \
    && MAX_JOBS=${MAX_JOBS} .venv/bin/uv pip install --quiet --python .venv/bin/python \
        --no-build-isolation --override requirements.lock ".[flash]"

COPY --chown=flexbert . .
RUN .venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation -e . \
    && touch .venv/ready

CMD ["flexbert", "doctor"]
