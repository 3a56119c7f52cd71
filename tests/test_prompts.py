"""Prompts of pipeline folders: hand-made tokenizers and text encoders, and pipelines of diffusers."""

import json
import sys

import numpy as np
import pytest
from helpers.onnx_models import Graph, Value

import uldnum
from uldnum._util.extras import MissingExtraError
from uldnum.networks import network
from uldnum.networks.text import Tokenizer

pytest.importorskip("tokenizers")

# --------------------------------------------------------------------------------------------------------- tokenizers

START, END = "<|startoftext|>", "<|endoftext|>"
VOCABULARY = ["!", "a", "b", "c", "a</w>", "b</w>", "c</w>", "ab", "abc</w>", START, END, "!</w>", "'", "'s</w>",
              "s</w>", "1</w>"]  # fmt: skip
MERGES = ["a b", "ab c</w>", "' s</w>"]
LENGTH = 8


def save_tokenizer(folder, pad=END, length=LENGTH, **settings):
    """Write CLIP's tokenizer with a vocabulary of a few tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(VOCABULARY)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES, ""]))
    settings = {"model_max_length": length, "pad_token": pad} | settings
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


# Texts and their tokens without the first one, 9, and the padding. A word of the text is its bytes, of which the last
# one has the end of the word; "a b" and then "ab c</w>" are merged.
TOKENS = {
    "": [10],
    "abc": [8, 10],
    "ABC  ab\tba": [8, 1, 5, 2, 4, 10],
    "abc's": [8, 13, 10],
    "abcs": [7, 3, 14, 10],  # ab, c, s</w>: "ab c</w>" needs the end of the word
    "a1 1": [4, 15, 15, 10],  # a digit is a word
    "a! b!": [4, 11, 5, 11, 10],
    "ax": [1, 10, 10],  # an unknown byte is the end token
    f"a{END}b": [4, 10, 5, 10],
}


def padded(tokens, pad):
    return [9, *tokens, *[pad] * (LENGTH - 1 - len(tokens))]


@pytest.mark.parametrize("text", TOKENS)
def test_tokens_of_clip(tmp_path, text):
    tokenizer = Tokenizer.read(save_tokenizer(tmp_path))
    assert tokenizer(text).tolist() == [padded(TOKENS[text], 10)]


def test_padding_is_a_special_token(tmp_path):
    """A padding token in a text is that token, without an end of the word, as in transformers."""
    tokenizer = Tokenizer.read(save_tokenizer(tmp_path, pad={"content": "!"}))
    assert tokenizer("a! b").tolist() == [padded([4, 0, 5, 10], 0)]


def test_special_tokens_of_early_folders(tmp_path):
    """The map of special tokens takes precedence over settings that do not list the added tokens."""
    save_tokenizer(tmp_path)
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"pad_token": "!"}))
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<c>_1": 17, "<c>": 16}))
    assert Tokenizer.read(tmp_path)("a <c>").tolist() == [padded([4, 16, 17, 10], 0)]  # both vectors of <c>
    listed = {"10": {"content": END, "special": True}, "16": {"content": "<c>", "lstrip": True, "normalized": True}}
    save_tokenizer(tmp_path, added_tokens_decoder=listed)
    assert Tokenizer.read(tmp_path)("a <C>").tolist() == [padded([4, 16, 10], 10)]


def test_long_texts_are_cut_off_with_a_warning(tmp_path):
    tokenizer = Tokenizer.read(save_tokenizer(tmp_path))
    with pytest.warns(UserWarning, match=r"reads 8 tokens, and the end of the text is cut off: 'Abc, abc'$"):
        tokens = tokenizer("abc ab ba abc Abc, abc ")
    assert tokens.tolist() == [[9, 8, 1, 5, 2, 4, 8, 10]]
    assert tokenizer("abc ab ba abc").tolist() == tokens.tolist()  # a text that just fits: no warning


def test_tokenizer_json_takes_precedence(tmp_path):
    save_tokenizer(tmp_path)
    short = {"truncation": {"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}}
    words = {"type": "WordLevel", "vocab": {"abc": 1, "a": 2, END: 3}, "unk_token": END}
    content = {"version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": {"type": "Whitespace"},
               "post_processor": None, "decoder": None, "padding": None, "model": words}  # fmt: skip
    (tmp_path / "tokenizer.json").write_text(json.dumps(content | short))
    assert Tokenizer.read(tmp_path)("a abc abc b").tolist() == [[2, 1, 1, 3, 3, 3, 3, 3]]
    assert Tokenizer.read(tmp_path, 5)("a abc").tolist() == [[2, 1, 3, 3, 3]]


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("vocab.json", "[1]", r"vocab\.json' cannot be read as JSON: it must hold an object"),
        ("vocab.json", '{"a": "b"}', "cannot be read as a tokenizer"),
        ("vocab.json", '{"a": 1}', "cannot be read as a tokenizer: .*out of vocabulary"),
        ("merges.txt", None, r"merges\.txt' cannot be read as text: it is missing"),
        ("merges.txt", "#\na b c", "cannot be read as a tokenizer"),
        ("tokenizer.json", "{}", "cannot be read as a tokenizer"),
        ("vocab.json", None, r"must have tokenizer\.json, or vocab\.json and .*save_pretrained"),
        ("tokenizer_config.json", "{}", "model_max_length must be an integer from 3 to 65536, got None"),
        ("tokenizer_config.json", f'{{"model_max_length": {10**30}}}', "model_max_length must be an integer"),
        ("tokenizer_config.json", '{"model_max_length": 8, "pad_token": "<p>", "added_tokens_decoder": 3}',
         "cannot be read as a tokenizer"),
        ("tokenizer_config.json", '{"model_max_length": 8, "added_tokens_decoder": {"one": "<c>"}}', "cannot be read"),
        ("tokenizer_config.json", '{"model_max_length": 8, "added_tokens_decoder": {"20": {"content": "<c>"}}}',
         "the token '<c>' must have the number 20, the next one"),
        ("tokenizer_config.json", '{"model_max_length": 8, "pad_token": "<p>"}', "must have the special token '<p>'"),
    ],
)  # fmt: skip
def test_broken_tokenizers_are_refused(tmp_path, name, content, fault):
    save_tokenizer(tmp_path)
    (tmp_path / name).unlink(missing_ok=True)
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=fault):
        Tokenizer.read(tmp_path)


def test_a_missing_library_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtraError, match=r"prompts need tokenizers.*pip install 'uldnum\[text\]'"):
        Tokenizer.read(save_tokenizer(tmp_path))


# ---------------------------------------------------------------------------------------------------------- pipelines

EMBEDDING = np.random.default_rng(0).normal(size=(len(VOCABULARY), 3)).astype(np.float32)
ABC, B, EMPTY = (np.array(padded(tokens, 10)) for tokens in ([8, 10], [5, 10], [10]))


def save_encoder(folder, factor=1.0, kind="int64", names=("last_hidden_state", "text_embeds"), layers=3):
    """Write a text encoder with ``layers`` hidden states: state i is (i + factor) E[token], the last one 0."""
    graph = Graph()
    states = graph.node("Gather", EMBEDDING, Value(graph, "input_ids"))
    outputs = {name: ("float32", ["n", "length", 3]) for name in names}
    for i in range(layers):
        weight = np.float32(i + factor if i < layers - 1 else 0)
        graph.node("Mul", states, weight, output=f"hidden_states.{i}")
        outputs[f"hidden_states.{i}"] = outputs["last_hidden_state"]
    graph.node("Mul", states, np.float32(factor), output="last_hidden_state")
    if "text_embeds" in names:
        graph.node("ReduceSum", states, np.array([1]), keepdims=0, output="text_embeds")
        outputs["text_embeds"] = ("float32", ["n", 3])
    graph.save(folder / "model.onnx", {"input_ids": (kind, ["n", "length"])}, outputs)


INPUTS = {
    "StableDiffusionPipeline": {"encoder_hidden_states": ["n", "length", "width"]},
    "StableDiffusionXLPipeline": {
        "encoder_hidden_states": ["n", "length", "width"], "text_embeds": ["n", 3], "time_ids": ["n", 6],
    },
    "StableDiffusion3Pipeline": {
        "encoder_hidden_states": ["n", "length", "width"], "pooled_projections": ["n", "width"],
    },
}  # fmt: skip
SHAPE = (4, 2, 3)
SCHEDULER = {"_class_name": "DDIMScheduler", "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear",
             "num_train_timesteps": 1000, "timestep_spacing": "trailing", "clip_sample": False}  # fmt: skip


def save_pipeline(folder, name, encoders=("", "_2"), config=None, **index):
    """Write a pipeline whose network returns the sum of the features of the text."""
    graph = Graph()
    states = graph.node("ReduceSum", Value(graph, "encoder_hidden_states"), np.array([1, 2]), keepdims=1)
    shift = graph.node("Unsqueeze", states, np.array([3]))
    zero = graph.node("Mul", Value(graph, "sample"), np.float32(0))
    graph.node("Add", zero, shift, output="answer")
    image = ("float32", ["n", *SHAPE])
    inputs = {"sample": image, "timestep": ("float32", [])}
    inputs |= {key: ("float32", shape) for key, shape in INPUTS.get(name, INPUTS["StableDiffusionPipeline"]).items()}
    graph.save(folder / "unet" / "model.onnx", inputs, {"answer": image})
    listed = {f"text_encoder{end}": ["transformers", "CLIPTextModel"] for end in encoders}
    parts = {
        "model_index.json": {"_class_name": name, "text_encoder_3": [None, None]} | listed | index,
        "scheduler/scheduler_config.json": SCHEDULER,
        "unet/config.json": {"sample_size": SHAPE[1:], "in_channels": 4} | (config or {}),
        "vae_decoder/config.json": {"block_out_channels": [8, 8, 8]},
    }
    for path, content in parts.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(json.dumps(content))
    for number, end in enumerate(encoders):
        save_tokenizer(folder / f"tokenizer{end}")
        save_encoder(folder / f"text_encoder{end}", factor=1.0 + 2 * number)
    return folder


def conditions(net):
    """Return the inputs of the two branches of guidance."""
    return [dict(one) for one in net.conditions.sets]


def test_prompts_of_stable_diffusion(tmp_path):
    folder = save_pipeline(tmp_path / "sd", "StableDiffusionPipeline", [""])
    net = network(folder, prompt=["abc", "b"])
    text, plain = conditions(net)
    np.testing.assert_array_equal(text["encoder_hidden_states"], EMBEDDING[[ABC, B]])
    np.testing.assert_array_equal(plain["encoder_hidden_states"], EMBEDDING[[EMPTY]])
    assert net.conditions.guidance == 7.5
    # Six chains have the first prompt and the second one in turn.
    sums, none = EMBEDDING[[ABC, B]].sum(axis=(1, 2)), EMBEDDING[EMPTY].sum()
    answer = net.at(t=500).answer(np.zeros((6, *SHAPE), np.float32))
    expected = np.tile(none + 7.5 * (sums - none), 3)
    np.testing.assert_allclose(answer, np.broadcast_to(expected[:, None, None, None], answer.shape), rtol=1e-5)
    one = network(folder, prompt="abc", guidance=1)
    assert one.conditions.copies == 1
    np.testing.assert_array_equal(conditions(one)[0]["encoder_hidden_states"], EMBEDDING[[ABC]])
    _, negative = conditions(network(folder, prompt=["abc", "b"], negative_prompt=("b", "abc"), guidance=2))
    np.testing.assert_array_equal(negative["encoder_hidden_states"], EMBEDDING[[B, ABC]])


def test_prompts_of_stable_diffusion_xl(tmp_path):
    """Both encoders contribute the states before their last layer, and the last encoder an embedding."""
    folder = save_pipeline(tmp_path / "xl", "StableDiffusionXLPipeline")
    net = network(folder, prompt="abc")
    text, plain = conditions(net)
    states = np.concatenate([2 * EMBEDDING[ABC], 4 * EMBEDDING[ABC]], axis=-1)
    np.testing.assert_array_equal(text["encoder_hidden_states"], states[None])
    np.testing.assert_allclose(text["text_embeds"], EMBEDDING[[ABC]].sum(axis=1), rtol=1e-6)
    np.testing.assert_array_equal(text["time_ids"], [[8, 12, 0, 0, 8, 12]])  # four pixels for each latent
    assert not plain["encoder_hidden_states"].any()
    assert not plain["text_embeds"].any()
    np.testing.assert_array_equal(plain["time_ids"], text["time_ids"])
    assert net.conditions.guidance == 5.0
    for given in ({"negative_prompt": ""}, {}):
        if not given:
            save_pipeline(tmp_path / "xl", "StableDiffusionXLPipeline", force_zeros_for_empty_prompt=False)
        _, plain = conditions(network(folder, prompt="abc", **given))
        np.testing.assert_array_equal(plain["encoder_hidden_states"][0, :, :3], 2 * EMBEDDING[EMPTY])
        np.testing.assert_allclose(plain["text_embeds"], EMBEDDING[[EMPTY]].sum(axis=1), rtol=1e-6)


def test_prompts_of_stable_diffusion_3(tmp_path):
    """The states of two CLIP encoders are padded to the width of T5 and followed by those of T5, or by zeros."""
    folder = save_pipeline(tmp_path / "sd3", "StableDiffusion3Pipeline", config={"joint_attention_dim": 7})
    net = network(folder, prompt=["abc", "b"])
    assert net.conditions.guidance == 7.0
    text, plain = conditions(net)
    states = text["encoder_hidden_states"]
    assert states.shape == (2, LENGTH + 256, 7)
    np.testing.assert_array_equal(states[:, :LENGTH, :3], 2 * EMBEDDING[[ABC, B]])
    np.testing.assert_array_equal(states[:, :LENGTH, 3:6], 4 * EMBEDDING[[ABC, B]])
    assert not states[:, LENGTH:].any()
    assert not states[..., 6].any()
    sums = EMBEDDING[[ABC, B]].sum(axis=1)
    np.testing.assert_allclose(text["pooled_projections"], np.concatenate([sums, sums], axis=-1), rtol=1e-6)
    np.testing.assert_array_equal(plain["encoder_hidden_states"][:, :LENGTH, :3], 2 * EMBEDDING[[EMPTY]])

    save_pipeline(folder, "StableDiffusion3Pipeline", ["", "_2", "_3"])
    graph = Graph()
    graph.node("Gather", np.tile(EMBEDDING, 3)[:, :7], Value(graph, "input_ids"), output="last_hidden_state")
    graph.save(
        folder / "text_encoder_3" / "model.onnx",
        {"input_ids": ("int32", ["n", "length"])},
        {"last_hidden_state": ("float32", ["n", "length", 7])},
    )
    text, _ = conditions(network(folder, prompt="abc"))
    tokens = np.array([9, 8, *[10] * 254])
    np.testing.assert_array_equal(text["encoder_hidden_states"][0, LENGTH:, :3], EMBEDDING[tokens])
    save_pipeline(folder, "StableDiffusion3Pipeline", config={"joint_attention_dim": 5})
    with pytest.raises(ValueError, match="joint_attention_dim of at least 6, got 5"):
        network(folder, prompt="abc")


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"prompt": 3}, "prompt: must be a string or a list of strings, got 3"),
        ({"prompt": []}, "prompt: must be a string or a list of strings"),
        ({"prompt": ["a", None]}, "prompt: must be a string or a list of strings"),
        ({"prompt": "\udc80"}, "prompt: must be valid Unicode"),
        ({"negative_prompt": "a"}, "negative_prompt: needs a prompt"),
        ({"prompt": "a", "negative_prompt": "b", "guidance": 1}, "negative_prompt: needs guidance"),
        ({"prompt": ["a", "b", "c"], "negative_prompt": ["a", "b"]}, "negative_prompt: must be 1 text or 3"),
        ({"prompt": "a", "negative_prompt": [1]}, "negative_prompt: must be a string"),
        ({"prompt": "a", "guidance": "w"}, "guidance: must be a number"),
        ({"prompt": "a", "guidance": np.inf}, "guidance: must be a finite number"),
        ({"prompt": "a", "threads": 0}, "threads: must be at least 1"),
        ({"prompt": "a", "inputs": [1]}, "inputs: must be a mapping"),
        ({"prompt": "a", "inputs": {"encoder_hidden_states": 0}}, "inputs: must not have encoder_hidden_states"),
        ({"prompt": "a", "unconditional": {"encoder_hidden_states": 0}}, "unconditional: must not have encoder"),
        ({"prompt": "a", "inputs": {"label": 0}}, "inputs: the model accepts encoder_hidden_states.*unknown label"),
    ],
)
def test_prompts_that_do_not_fit_are_refused(tmp_path, options, fault):
    folder = save_pipeline(tmp_path, "StableDiffusionPipeline", [""])
    with pytest.raises(ValueError, match=fault):
        network(folder, **options)


def test_networks_without_text_encoders_refuse_prompts(tmp_path):
    with pytest.raises(ValueError, match="prompt: needs a pipeline folder with text encoders, got 'mnist'"):
        network("mnist", prompt="a seven")
    folder = save_pipeline(tmp_path, "StableDiffusionPipeline", [])
    with pytest.raises(ValueError, match=r"prompt: needs a text encoder, and model_index\.json of .* lists none"):
        network(folder, prompt="a")
    folder = save_pipeline(tmp_path, "PixArtAlphaPipeline", [""])
    with pytest.raises(ValueError, match=r"Diffusion3Pipeline, and .* is 'PixArtAlphaPipeline'; give the embedded"):
        network(folder, prompt="a")
    folder = save_pipeline(tmp_path, "ORTStableDiffusionPipeline", [""])  # a class of Optimum
    assert network(folder, prompt="a").conditions.guidance == 7.5
    (folder / "text_encoder" / "model.onnx").unlink()
    with pytest.raises(ValueError, match=r"no such file: .*text_encoder/model\.onnx"):
        network(folder, prompt="a")


def test_broken_text_encoders_are_refused(tmp_path):
    folder = save_pipeline(tmp_path, "StableDiffusionXLPipeline")
    save_encoder(folder / "text_encoder_2", layers=0)
    with pytest.raises(ValueError, match=r"must have the output 'hidden_states\.N', got last_hidden_state: tensor"):
        network(folder, prompt="a")
    save_encoder(folder / "text_encoder_2", names=["last_hidden_state"])
    with pytest.raises(ValueError, match=r"the output 'text_embeds', got .*; export the pipeline with Optimum"):
        network(folder, prompt="a")
    graph, ids = Graph(), ("int64", ["n", "length"])
    graph.node("Add", Value(graph, "input_ids"), Value(graph, "mask"), output="states")
    graph.save(folder / "text_encoder" / "model.onnx", {"input_ids": ids, "mask": ids}, {"states": ids})
    with pytest.raises(ValueError, match=r"must have one input, the numbers of the tokens, got input_ids.*mask"):
        network(folder, prompt="a")
    save_pipeline(tmp_path, "StableDiffusionXLPipeline", config={"sample_size": None})
    with pytest.raises(ValueError, match="prompt: Stable Diffusion XL needs the size of an image; give --set shape"):
        network(folder, prompt="a")


def test_prompts_may_be_combined_with_other_inputs(tmp_path):
    """The numbers of the tokens have the type that the encoder declares."""
    folder = save_pipeline(tmp_path, "StableDiffusionPipeline", [""])
    save_encoder(folder / "text_encoder", kind="int32")
    graph, image = Graph(), ("float32", ["n", *SHAPE])
    graph.node("Add", Value(graph, "sample"), Value(graph, "depth"), output="answer")
    inputs = {"sample": image, "timestep": ("float32", []), "depth": image}
    inputs["encoder_hidden_states"] = ("float32", ["n", "length", "width"])
    graph.save(folder / "unet" / "model.onnx", inputs, {"answer": image})
    depth = np.ones((2, *SHAPE))
    card = {"image_input": "sample", "output": "answer"}
    net = network(folder, card, prompt="abc", inputs={"depth": depth}, unconditional={"depth": 0 * depth})
    text, plain = conditions(net)
    np.testing.assert_array_equal(text["encoder_hidden_states"], EMBEDDING[[ABC]])
    np.testing.assert_array_equal(plain["depth"], 0 * depth)
    np.testing.assert_array_equal(net.at(t=500).answer(0 * depth), 7.5 * depth)


# ------------------------------------------------------------------------------ exported by the libraries themselves

LEVELS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False,
          "set_alpha_to_one": True}  # fmt: skip
BLOCKS = {"block_out_channels": (32, 64), "layers_per_block": 1, "norm_num_groups": 8}
TEXT = {"vocab_size": len(VOCABULARY), "bos_token_id": 9, "eos_token_id": 10, "intermediate_size": 37,
        "num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": 16}  # fmt: skip


@pytest.fixture(scope="module")
def libraries():
    torch = pytest.importorskip("torch")
    found = torch, pytest.importorskip("diffusers"), pytest.importorskip("transformers")
    return *found, pytest.importorskip("optimum.exporters.onnx")


def clip(libraries, folder, number, pad=END, projected=False):
    """Return a tokenizer and a text encoder of random weights, with a width that depends on the number."""
    torch, _, transformers, _ = libraries
    torch.manual_seed(number)
    save_tokenizer(folder / f"source{number}", pad)
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / f"source{number}", model_max_length=16)
    config = transformers.CLIPTextConfig(hidden_size=16 * number, projection_dim=8 * number, **TEXT)
    kind = transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel
    return tokenizer, kind(config)


def unet(libraries, width, **options):
    torch, diffusers, _, _ = libraries
    torch.manual_seed(3)
    return diffusers.UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, cross_attention_dim=width, attention_head_dim=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        **BLOCKS, **options,
    )  # fmt: skip


def vae(libraries):
    _, diffusers, _, _ = libraries
    kinds = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    return diffusers.AutoencoderKL(latent_channels=4, **kinds, **BLOCKS)


def version_1(libraries, folder, spacing):
    _, diffusers, _, _ = libraries
    tokenizer, encoder = clip(libraries, folder, 2)
    return diffusers.StableDiffusionPipeline(
        vae=vae(libraries), text_encoder=encoder, tokenizer=tokenizer, unet=unet(libraries, 32),
        scheduler=diffusers.DDIMScheduler(timestep_spacing=spacing, steps_offset=1, **LEVELS), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def version_xl(libraries, folder, zeros):
    _, diffusers, _, _ = libraries
    (tokenizer, encoder), (tokenizer_2, encoder_2) = (
        clip(libraries, folder, 1),
        clip(libraries, folder, 2, "!", projected=True),
    )
    added = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8,
             "projection_class_embeddings_input_dim": 6 * 8 + 16, "use_linear_projection": True}  # fmt: skip
    return diffusers.StableDiffusionXLPipeline(
        vae=vae(libraries), text_encoder=encoder, text_encoder_2=encoder_2, tokenizer=tokenizer,
        tokenizer_2=tokenizer_2, unet=unet(libraries, 48, **added), force_zeros_for_empty_prompt=zeros,
        scheduler=diffusers.DDIMScheduler(timestep_spacing="trailing", **LEVELS), add_watermarker=False,
    )  # fmt: skip


def version_3(libraries, folder, t5):
    torch, diffusers, transformers, _ = libraries
    (tokenizer, encoder), (tokenizer_2, encoder_2) = (
        clip(libraries, folder, 1, projected=True),
        clip(libraries, folder, 2, "!", projected=True),
    )
    tokenizer_3 = encoder_3 = None
    if t5:
        words = {"<pad>": 0, "</s>": 1, "<unk>": 2, "abc": 3, "b": 4, "c": 5}
        (folder / "t5").mkdir()
        ending = {"type": "TemplateProcessing", "pair": [],
                  "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
                  "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}}}  # fmt: skip
        content = {"version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": {"type": "Whitespace"},
                   "post_processor": ending, "decoder": None, "padding": None, "truncation": None,
                   "model": {"type": "WordLevel", "vocab": words, "unk_token": "<unk>"}}  # fmt: skip
        (folder / "t5" / "tokenizer.json").write_text(json.dumps(content))
        tokenizer_3 = transformers.T5TokenizerFast(tokenizer_file=str(folder / "t5" / "tokenizer.json"), extra_ids=0)
        torch.manual_seed(5)
        config = transformers.T5Config(vocab_size=6, d_model=56, d_kv=8, d_ff=37, num_layers=2, num_heads=4)
        encoder_3 = transformers.T5EncoderModel(config)
    torch.manual_seed(4)
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8,
        num_attention_heads=4, joint_attention_dim=56, caption_projection_dim=32, pooled_projection_dim=24,
        pos_embed_max_size=8,
    )  # fmt: skip
    return diffusers.StableDiffusion3Pipeline(
        vae=vae(libraries), text_encoder=encoder, text_encoder_2=encoder_2, text_encoder_3=encoder_3,
        tokenizer=tokenizer, tokenizer_2=tokenizer_2, tokenizer_3=tokenizer_3, transformer=transformer,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    )  # fmt: skip


def relative(found, wanted):
    return np.linalg.norm(found - wanted) / np.linalg.norm(wanted)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("pad", [END, "!"])
def test_tokens_equal_those_of_transformers(tmp_path, pad):
    """Also for accents, signs, spaces of all kinds and letters that the vocabulary does not have."""
    transformers, diffusers = pytest.importorskip("transformers"), pytest.importorskip("diffusers")
    theirs = transformers.CLIPTokenizerFast.from_pretrained(save_tokenizer(tmp_path / "source", pad))
    theirs.add_tokens(["<c>", "<c>_1", "<d>"])
    expanded = diffusers.loaders.TextualInversionLoaderMixin().maybe_convert_prompt
    theirs.save_pretrained(tmp_path / "whole")
    theirs.save_pretrained(tmp_path / "parts")
    (tmp_path / "parts" / "tokenizer.json").unlink()
    rng = np.random.default_rng(0)
    letters = [*"aaabbbcccABC's!?.,1 2-\t\n\u0301ßİéﬁ漢", " ", " ", "<c>", END]
    texts = ["".join(rng.choice(letters, size=size)) for size in rng.integers(0, 12, size=500)]
    for folder in ("whole", "parts"):
        ours = Tokenizer.read(tmp_path / folder, 60)
        for text in texts:
            wanted = theirs(expanded(text, theirs), padding="max_length", max_length=60, truncation=True).input_ids
            assert ours(text).tolist() == [wanted], text


# A function that makes a pipeline, its option, and arguments of `network`.
PIPELINES = {
    "1, leading": (version_1, "leading", {"negative_prompt": ["c", "ab c"]}),
    "1, trailing": (version_1, "trailing", {}),
    "1, without guidance": (version_1, "trailing", {"guidance": 1}),
    "XL": (version_xl, True, {"negative_prompt": ["c!", "ab c"], "guidance": 3.0}),
    "XL, zeros": (version_xl, True, {}),
    "XL, empty text": (version_xl, False, {}),
    "3": (version_3, False, {"negative_prompt": ["c!", "ab c"]}),
    "3, T5": (version_3, True, {"guidance": 2.0}),
}
# The second prompt has more than 16 tokens.
PROMPTS = ["abc ab's!", "b" + " abc c 1 ba" * 5]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", PIPELINES)
def test_latents_equal_those_of_the_pipeline(libraries, tmp_path, name):
    """Embedded prompts, and latents after 10 steps of DDIM or flow Euler, are those of the pipeline's own code."""
    torch, _, _, exporters = libraries
    make, option, given = PIPELINES[name]
    pipeline = make(libraries, tmp_path, option)
    pipeline.set_progress_bar_config(disable=True)
    exporters.onnx_export_from_model(pipeline, tmp_path / "onnx", task="text-to-image", do_validation=False)
    with pytest.warns(UserWarning, match="16 tokens, and the end of the text is cut off: 'ba abc c 1 ba"):
        net = network(tmp_path / "onnx", prompt=PROMPTS, **given)
    assert net.shape == (4, 8, 8)

    theirs = {key: value for key, value in given.items() if key != "guidance"}
    weight = {"guidance_scale": given["guidance"]} if "guidance" in given else {}
    more = {f"prompt_{i}": None for i in (2, 3)} if make is version_3 else {}
    with torch.no_grad():
        found = pipeline.encode_prompt(
            prompt=PROMPTS, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=True, **theirs, **more
        )
    names = "encoder_hidden_states", "text_embeds" if make is version_xl else "pooled_projections"
    for i, wanted in enumerate(found):  # states, then embeddings; with the prompt, then without it
        if i % 2 < net.conditions.copies:
            ours = net.conditions.sets[i % 2][names[i // 2]]
            np.testing.assert_allclose(np.broadcast_to(ours, wanted.shape), wanted.numpy(), rtol=1e-4, atol=1e-5)

    # Four chains start from the same latents. They have the two prompts in turn; the pipeline has them in order.
    start = np.random.default_rng(0).normal(size=(1, 4, 8, 8)).astype(np.float32).repeat(4, axis=0)
    latents = pipeline(
        PROMPTS, num_images_per_prompt=2, num_inference_steps=10, latents=torch.tensor(start), output_type="latent",
        **theirs, **weight,
    ).images.numpy()  # fmt: skip
    run = uldnum.anneal(net, uldnum.plan("ddim", net.levels(10)), chains=4, x0=start, progress=False)
    assert relative(run.x[[0, 2, 1, 3]], latents) < 1e-4
    assert relative(latents[0], latents[2]) > 1e-2  # the prompts matter
