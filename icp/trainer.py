"""The `transformers.Trainer` of `icp.finetune`; imported where it is used, since it is slow to import."""

from typing import Any

from transformers import PrinterCallback, Trainer

from icp.callbacks import Bar, LogsTheLast, WatchesPairs
from icp.losses import Losses
from icp.mixin import ObjectiveMixin, last_checkpoint
from icp.watch import Watched


class ObjectiveTrainer(ObjectiveMixin, Trainer):
    """Minimises objectives, shows a bar, and goes on from the last whole checkpoint."""

    def __init__(self, losses: Losses, progress: bool, watched: Watched | None = None, **given: Any):
        super().__init__(losses=losses, **given)
        if watched is not None:
            self.add_callback(WatchesPairs(watched, self.losses))
        self.remove_callback(PrinterCallback)
        self.add_callback(LogsTheLast())
        self.add_callback(Bar(progress))

    def run(self) -> None:
        """Train, from the last whole checkpoint on where there is one."""
        last = last_checkpoint(self.args.output_dir)
        self.train(resume_from_checkpoint=None if last is None else str(last))
