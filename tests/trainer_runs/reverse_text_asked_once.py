"""verifiers' environment reverse-text, with one call of the model in place of a program."""

import verifiers.v1 as vf
from openai import AsyncOpenAI
from reverse_text import ReverseTextTaskset

__all__ = ["AskedOnce", "ReverseTextTaskset"]


class AskedOnceConfig(vf.HarnessConfig):
    pass


class AskedOnce(vf.Harness[AskedOnceConfig]):
    APPENDS_SYSTEM_PROMPT = True
    EXECUTES_CODE = False
    NEEDS_CONTAINER = False

    async def launch(self, ctx, trace, runtime, endpoint, secret, mcp_urls, data):
        system, prompt = self.resolve_text_prompt(data)
        said = [{"role": "system", "content": system}, {"role": "user", "content": prompt}]
        async with AsyncOpenAI(base_url=endpoint, api_key=secret, max_retries=0) as client:
            await client.chat.completions.create(model=ctx.model, messages=said)
        return vf.ProgramResult(exit_code=0, stdout="", stderr="")
