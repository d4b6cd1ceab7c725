"""Weights of timm: from the cache of the hub without a question, else where to get them."""

from http.server import BaseHTTPRequestHandler, HTTPServer
import json
import os
from pathlib import Path
import subprocess
import sys
import threading

from cnn_perception.timm_weights import downloaded, from_timm
import pytest
import safetensors.torch
import timm
import torch

NAME = 'test_resnet'
# At its own address timm has it as a file that the network itself reads.
READS_ITS_OWN = 'vit_tiny_patch16_224.augreg_in21k_ft_in1k'
LOADING = """
import json, sys
import torch
from cnn_perception.weights import load_network
network = load_network('timm/' + sys.argv[1])
state = network.module.state_dict()
print(json.dumps([network.weights, network.trained, float(sum(v.double().sum()
                                                              for v in state.values()))]))
"""


@pytest.fixture
def hub():
    """Answer as a hub that has nothing, and count who asks."""
    asked = []

    class Empty(BaseHTTPRequestHandler):
        def do_HEAD(self):
            asked.append(self.path)
            self.send_error(404)

        do_GET = do_HEAD

        def log_message(self, *arguments):
            pass

    server = HTTPServer(('127.0.0.1', 0), Empty)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port, asked
    server.shutdown()
    server.server_close()


def load(name, home, port):
    """Load in a process of its own: the hub's client reads its environment once."""
    environment = {**os.environ, 'HF_HOME': str(home), 'HF_HUB_CACHE': str(home / 'hub'),
                   'HF_ENDPOINT': f'http://127.0.0.1:{port}', 'no_proxy': '127.0.0.1',
                   'PYTHONPATH': str(Path(__file__).resolve().parents[1])}
    for variable in ('HF_HUB_OFFLINE', 'HUGGINGFACE_HUB_CACHE'):
        environment.pop(variable, None)
    return subprocess.run([sys.executable, '-c', LOADING, name], env=environment, text=True,
                          capture_output=True, timeout=240)


@pytest.mark.parametrize('name', [NAME, READS_ITS_OWN])
def test_what_was_downloaded_is_taken_without_asking_the_hub(tmp_path, hub, name):
    port, asked = hub
    config = timm.get_pretrained_cfg(name)
    repository = tmp_path / 'hub' / f'models--{config.hf_hub_id.replace("/", "--")}'
    (repository / 'refs').mkdir(parents=True)
    (repository / 'refs' / 'main').write_text('a' * 40)
    snapshot = repository / 'snapshots' / ('a' * 40)
    snapshot.mkdir(parents=True)
    state = {key: torch.full_like(value, 0.5) for key, value in
             timm.create_model(name).state_dict().items()}
    safetensors.torch.save_file(state, snapshot / 'model.safetensors')
    done = load(name, tmp_path, port)
    assert done.returncode == 0, done.stderr
    weights, trained, total = json.loads(done.stdout.splitlines()[-1])
    assert (weights, trained) == (f'timm {name}, pretrained', True)
    assert total == pytest.approx(float(sum(v.double().sum() for v in state.values())))
    assert not asked


def test_what_was_not_is_asked_for_and_where_to_get_it_is_said(tmp_path, hub):
    port, asked = hub
    done = load(NAME, tmp_path, port)
    assert done.returncode
    assert asked
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ValueError: pretrained weights of 'timm/{NAME}' could not be had")
    assert last.endswith('on a machine with internet access and give it as weights')


def test_files_that_timm_reads_in_its_own_way_are_left_to_it(monkeypatch):
    config = timm.get_pretrained_cfg(NAME)
    asked = []
    monkeypatch.setattr('huggingface_hub.try_to_load_from_cache',
                        lambda *what, **more: asked.append(what) or 'a path')
    assert downloaded(NAME) == 'a path'
    assert asked == [(config.hf_hub_id, 'model.safetensors')]
    for changes in ({'custom_load': 'hf'}, {'hf_hub_id': None}, {'hf_hub_filename': 'model.npz'}):
        monkeypatch.setattr(timm, 'get_pretrained_cfg', lambda name, changes=changes:
                            type(config)(**{**config.to_dict(remove_null=False), **changes}))
        assert downloaded(NAME) is None


def test_weights_have_no_names_of_their_own():
    with pytest.raises(ValueError, match='name the variant in the architecture'):
        from_timm(f'timm/{NAME}', 'a1_in1k')
