# Medtune's page and chat.  CPU:  docker build -t medtune .
# docker run -p 127.0.0.1:7860:7860 -e MEDTUNE_API_KEYS=$(openssl rand -hex 24) -v ./served:/medtune medtune
# NVIDIA GPU:  docker build -t medtune:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 .
FROM python:3.11-slim-bookworm AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /build
RUN python -m venv /opt/medtune
ENV PATH=/opt/medtune/bin:$PATH
COPY pyproject.toml constraints.txt README.md LICENSE ./
# torch first: it is the largest layer and changes least.
RUN grep '^torch==' constraints.txt > torch.txt \
    && pip install --no-cache-dir --index-url "$TORCH_INDEX" --requirement torch.txt
COPY src ./src
RUN pip install --no-cache-dir --constraint constraints.txt .

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="Medtune" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.description="Medical chatbots, measured; information, not medical advice"
# OpenMP, which torch and llama.cpp compute with.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1=12.* \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/medtune /opt/medtune
RUN useradd --create-home --uid 10001 medtune && install --directory --owner medtune /medtune
ENV PATH=/opt/medtune/bin:$PATH \
    HF_HOME=/medtune/cache \
    PYTHONUNBUFFERED=1
USER 10001
WORKDIR /medtune
VOLUME ["/medtune"]
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/health', timeout=4)"]
ENTRYPOINT ["medtune"]
CMD ["serve", "--host", "0.0.0.0"]
