"""``curl -N`` shows a stream while it comes."""

import json
import shutil
import subprocess

import pytest

from astrai.inference.engine import InferenceEngine
from astrai.inference.server.background import serve_in_background
from astrai.model.transformer import Transformer
from astrai.tokenizer import Tokenizer
from tests.inference.serving import PacedSampler

CURL = shutil.which("curl")


@pytest.mark.skipif(CURL is None, reason="no curl on the path")
def test_curl_shows_each_event_as_it_comes(model: Transformer, tokenizer: Tokenizer) -> None:
    body = {"model": "tiny", "prompt": "The fox", "temperature": 0, "max_tokens": 12, "stream": True}
    sampler = PacedSampler()
    with (
        InferenceEngine(model, tokenizer, num_slots=2, sampler=sampler) as engine,
        serve_in_background(engine) as server,
    ):
        command = [str(CURL), "-sSN", f"{server.url}/v1/completions", "--json", json.dumps(body)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as curl:
            assert curl.stdout is not None and curl.stderr is not None
            sampler.release(3)
            first = curl.stdout.readline()  # NOTE: while the model waits for us
            assert engine.stats().running == 1
            sampler.open()
            output = first + curl.stdout.read()
            assert curl.stderr.read() == ""
        assert curl.returncode == 0
        events = [block.removeprefix("data: ") for block in output.split("\n\n")]
        assert events[-2:] == ["[DONE]", ""]
        text = "".join(json.loads(event)["choices"][0]["text"] for event in events[:-2])
        assert text == engine.generate("The fox", max_tokens=12)
