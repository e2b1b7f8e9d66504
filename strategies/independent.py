"""Independent networks: one per task, no sharing and no forgetting, the reference for forward transfer.

With the task id at test the network of that task answers; a task not learnt yet is answered by an untrained network.
Lopez-Paz and Ranzato (2017) divide the hidden units among the tasks; here every task gets a whole network, so stored
parameters grow with the number of tasks, and the ledger shows it.
"""

from __future__ import annotations

from torch import Tensor

from ..streams.core import Query, StreamInfo, Task
from .context import Context
from .core import GradientStrategy, strategy
from .parts.gradients import with_weights


@strategy("independent", needs=("task_id_at_test", "boundaries"))
class Independent(GradientStrategy):
    """Train a fresh network for every task; needs the task id at test."""

    stateful = (*GradientStrategy.stateful, "finished")

    def setup(self, info: StreamInfo, context: Context) -> None:
        """No task is finished."""
        super().setup(info, context)
        self.finished: list[dict[str, Tensor]] = []

    def begin_task(self, task: Task) -> None:
        """A new network, of its own initial weights."""
        self.model.load_state_dict(self.new_model(f"initial weights {self.tasks_begun - 1}").state_dict())

    def end_task(self, task: Task) -> None:
        """Put the network away."""
        self.finished.append({name: value.detach().clone() for name, value in self.model.state_dict().items()})

    def predict(self, inputs: Tensor, query: Query) -> Tensor:
        """The answer of the task's own network."""
        index = query.task if query.told else len(self.finished) - 1  # what belongs to no task, by the latest
        if index < 0:
            return self.objective.decide(self.model(inputs), query)
        known = index < len(self.finished)
        weights = self.finished[index] if known else self.new_model(f"initial weights {index}").state_dict()
        return with_weights(self.model, weights, lambda x: self.objective.decide(self.model(x), query), inputs)
