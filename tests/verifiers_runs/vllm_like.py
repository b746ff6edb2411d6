"""A tokenizer as files, and a server that speaks vLLM's token-in token-out endpoint."""

import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

CHAT = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def save_tokenizer(folder):
    """Every byte is a token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = ["<end>", "<system>", "<user>", "<assistant>", *alphabet]
    bytes_ = Tokenizer(models.BPE({name: number for number, name in enumerate(names)}, []))
    bytes_.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bytes_.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=bytes_,
        eos_token="<end>",
        pad_token="<end>",
        additional_special_tokens=["<system>", "<user>", "<assistant>"],
    )
    made.chat_template = CHAT
    made.save_pretrained(folder)
    return made


class Model:
    """Answers a question in a few ways, one after another, from the question's own words."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.asked = []
        self.fails = False

    def answer(self, question):
        first, *rest = question.split()
        ways = (
            f"<answer>{question}</answer>",
            f"<answer>{first}, blue, {' '.join(rest[-2:])}</answer>",
            "<answer>red, a word of nothing</answer>",
            f"I am not sure. <answer>{', '.join([first, *rest])}",
        )
        return ways[self.asked.count(question) % len(ways)]

    def said(self, question):
        answer = self.answer(question)
        self.asked.append(question)
        return answer

    def generate(self, body):
        assert body["sampling_params"]["logprobs"] == 1
        read = self.tokenizer.decode(body["token_ids"])
        answer = self.said(read.rsplit("<user>", 1)[1].split("<end>")[0])
        ids = [*self.tokenizer(answer)["input_ids"], self.tokenizer.eos_token_id]
        logprobs = [{"token": f"token_id:{one}", "logprob": -0.5} for one in ids]
        choice = {"token_ids": ids, "logprobs": {"content": logprobs}, "finish_reason": "stop"}
        return {"request_id": f"request{len(self.asked)}", "choices": [choice]}

    def chat(self, body):
        message = {"role": "assistant", "content": self.said(body["messages"][-1]["content"])}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        return {
            "id": "chat",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [choice],
        }


@contextmanager
def served(model):
    """The address of a server of the model."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self._send(200, {"data": [{"id": "toy", "max_model_len": 4096}]})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            answer = {"/inference/v1/generate": model.generate, "/v1/chat/completions": model.chat}
            if model.fails:
                self._send(400, {"error": {"message": "no memory left"}})
            else:
                self._send(200, answer[self.path](body))

        def _send(self, status, value):
            text = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
