"""Tokens trained per second, ours against plain TRL at the same settings, side by side.

Same base weights, first LoRA weights, rows, order, optimizer, schedule, precision and threads; the
losses of the two are compared, so what is faster is also the same. Each turn is a process of its
own (its peak memory is read at the end), and they take turns: what else the machine does falls on
both. TRL runs as in its documentation for prompt and completion, with gradient checkpointing off,
which is its faster setting here. `python -m benchmarks.training --json`.
"""

import argparse
import json
import logging
import resource
import statistics
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from headwater.base_model import BaseModel, load_torch, prepare, token_counter
from headwater.datasets.prompt import DEFAULT_PROMPT, chat_text, fit, render
from headwater.records import Hit
from headwater.settings import Settings, quiet_libraries
from training.data import Example
from training.recipe import Recipe, load_recipe
from training.trainer import plan_steps

ARMS = ("trl", "headwater")
#: Rows of one forward pass in TRL; more pads more and holds more logits.
_TRL_ROWS = 2


def sample_rows(base: BaseModel, count: int) -> list[Example]:
    """Prompts as serving sends them, over the standard library's own language reference."""
    from pydoc_data.topics import topics

    texts = [topics[name] for name in sorted(topics)]
    hits = [
        Hit(id=str(at), score=0.0, uri="", title="", heading="Python", start=0, end=0,
            text=" ".join(text.split()[:110]))
        for at, text in enumerate(texts)
    ]  # fmt: skip
    count_tokens, examples = token_counter(base), []
    for at in range(count):
        shown = [hits[(at + step) % len(hits)] for step in range(DEFAULT_PROMPT.top_k)]
        fitting = fit(shown, count_tokens, DEFAULT_PROMPT.max_context_tokens)
        prompt = chat_text(render(DEFAULT_PROMPT, "What does the passage say?", fitting))
        answer = " ".join(shown[0].text.split()[: 20 + at % 20])
        completion = f"{answer}.<|im_end|>"
        examples.append(Example(id=f"{at:04d}", prompt=prompt, completion=completion))
    return examples


def run_headwater(
    examples: list[Example], base: BaseModel, recipe: Recipe, threads: int
) -> dict[str, Any]:
    """Train with our trainer."""
    from training.trainer import train

    with TemporaryDirectory() as folder:
        work = Path(folder) / "work"
        result = train(examples, [], base, recipe, work=work, threads=threads).result
    losses = [point.loss for point in result.losses if point.loss is not None]
    return {"seconds": result.seconds, "tokens": result.tokens, "losses": losses}


def run_trl(
    examples: list[Example], base: BaseModel, recipe: Recipe, threads: int
) -> dict[str, Any]:
    """Train with TRL's SFTTrainer on the same rows in the same order."""
    import torch
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from training.data import encode
    from training.loop import SCHEDULES, warmup_steps
    from training.model import add_lora

    torch.set_num_threads(threads)
    model, tokenizer = load_torch(base)
    encoded = encode(examples, tokenizer, max_tokens=recipe.max_tokens)
    plan = plan_steps(encoded, recipe)
    by_id = {example.id: example for example in examples}
    rows = [asdict(by_id[row.id]) for step in plan for row in step]
    with TemporaryDirectory() as folder:
        arguments = SFTConfig(
            output_dir=folder,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            completion_only_loss=True,
            max_length=None,
            num_train_epochs=1,
            train_sampling_strategy="sequential",
            per_device_train_batch_size=_TRL_ROWS,
            gradient_accumulation_steps=recipe.rows_per_step // _TRL_ROWS,
            learning_rate=recipe.learning_rate,
            lr_scheduler_type=SCHEDULES[recipe.schedule],
            warmup_steps=warmup_steps(recipe, len(plan)),
            weight_decay=recipe.weight_decay,
            max_grad_norm=recipe.max_grad_norm,
            optim="adamw_torch",
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=recipe.seed,
        )
        dataset = Dataset.from_list(
            [{"prompt": row["prompt"], "completion": row["completion"]} for row in rows]
        )
        trainer = SFTTrainer(
            model=add_lora(model, recipe),
            args=arguments,
            train_dataset=dataset,
            processing_class=tokenizer,
        )
        seconds = trainer.train().metrics["train_runtime"]
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    tokens = sum(len(row.ids) for step in plan for row in step)
    return {"seconds": seconds, "tokens": tokens, "losses": losses}


def one_turn(arm: str, recipe: Recipe, steps: int, threads: int, home: Path) -> dict[str, Any]:
    """Train once in this process; its peak memory counts from the start."""
    logging.getLogger("headwater").setLevel(logging.WARNING)
    base = prepare(Settings(home=home), recipe.base)
    rows = recipe.rows_per_step * steps // recipe.epochs
    run = run_trl if arm == "trl" else run_headwater
    turn = run(sample_rows(base, rows), base, recipe, threads)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return {**turn, "tokens_per_second": turn["tokens"] / turn["seconds"], "peak_mb": peak}


def compare(recipe: str, steps: int, rounds: int, threads: int) -> dict[str, Any]:
    """Let the two take turns; medians of speed and memory, and how far their losses differ."""
    turns: dict[str, list[dict[str, Any]]] = {arm: [] for arm in ARMS}
    with TemporaryDirectory() as home:
        for number in range(rounds):
            for arm in ARMS if number % 2 == 0 else ARMS[::-1]:
                command = [
                    sys.executable, "-W", "ignore", "-m", "benchmarks.training", "--turn", arm,
                    "--recipe", recipe, "--steps", str(steps), "--threads", str(threads),
                    "--home", home,
                ]  # fmt: skip
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                turns[arm].append(json.loads(done.stdout.splitlines()[-1]))
                speed = turns[arm][-1]["tokens_per_second"]
                print(f"{arm}: {speed:.0f} tokens/s", file=sys.stderr, flush=True)
    speeds = {
        arm: statistics.median(turn["tokens_per_second"] for turn in turns[arm]) for arm in ARMS
    }
    pairs = zip(turns["headwater"][0]["losses"], turns["trl"][0]["losses"], strict=True)
    return {
        "recipe": recipe,
        "steps": steps,
        "threads": threads,
        "tokens": turns["headwater"][0]["tokens"],
        "headwater_tokens_per_second": round(speeds["headwater"], 1),
        "trl_tokens_per_second": round(speeds["trl"], 1),
        "ratio": round(speeds["headwater"] / speeds["trl"], 2),
        "headwater_peak_mb": round(max(turn["peak_mb"] for turn in turns["headwater"])),
        "trl_peak_mb": round(max(turn["peak_mb"] for turn in turns["trl"])),
        "largest_loss_difference": max(abs(ours - theirs) for ours, theirs in pairs),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--steps", type=int, default=3, help="optimizer steps of each turn")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=Settings().threads)
    parser.add_argument("--turn", choices=ARMS, help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    quiet_libraries()
    if options.turn:
        recipe = replace(load_recipe(options.recipe), save_every=10**6, max_steps=None)
        print(json.dumps(one_turn(
            options.turn, recipe, options.steps, options.threads, options.home
        )))  # fmt: skip
        return
    result = compare(options.recipe, options.steps, options.rounds, options.threads)
    if options.json:
        print(json.dumps(result))
    else:
        print("\n".join(f"{key}: {value}" for key, value in result.items()))


if __name__ == "__main__":
    main()
