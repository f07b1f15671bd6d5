# The demo in a container. The run stays in ./runs; other commands replace `run demo`:
#     docker build -t phiscale .
#     docker run --rm -v "$PWD/runs:/data/runs" phiscale
#     docker run --rm -v "$PWD:/data" phiscale init photos --budget 10M
# On NVIDIA GPUs; BASE may be any image with Python 3.11 or later and pip, and without PIP_OPTIONS
# torch comes with CUDA:
#     docker build -t phiscale-gpu --build-arg BASE=python:3.11 --build-arg PIP_OPTIONS= .
#     docker run --rm --gpus all -v "$PWD/runs:/data/runs" phiscale-gpu
# No image was built yet: the commands were run line by line without Docker.
ARG BASE=python:3.11-slim
FROM ${BASE}
ARG PIP_OPTIONS="--extra-index-url https://download.pytorch.org/whl/cpu"
WORKDIR /phiscale
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY space space
COPY scaling scaling
COPY search search
COPY reports reports
COPY experiments experiments
RUN python3 -m pip install --no-cache-dir --constraint constraints.txt ${PIP_OPTIONS} ".[onnx]"
WORKDIR /data
ENV XDG_CACHE_HOME=/data/runs/.cache
ENTRYPOINT ["phiscale"]
CMD ["run", "demo"]
