"""The search for servo offsets: the cross-entropy method on simulated futures."""

import numpy as np

from foveal.motion.rotations import Array
from foveal.motion.track.cost import EVERY, Weights, costs
from foveal.motion.track.reference import Window
from foveal.motion.track.world import World

TIMESTEP_S, HORIZON_S, KNOT_S, REPLAN_S = 0.005, 0.6, 0.2, 0.1
HORIZON, BLOCK = round(HORIZON_S / TIMESTEP_S), round(REPLAN_S / TIMESTEP_S)
KNOTS = round(HORIZON_S / KNOT_S) + 1
_ELITE, _LEAST_ELITE = 10, 4
FINE = 0.05
"""A cost at which nothing is sampled: about 2 cm off at every tracked place."""


def _linear(at: Array) -> Array:
    """Return how much of each knot counts (..., knots) at some places between them."""
    return np.maximum(0.0, 1.0 - np.abs(at[..., None] - np.arange(KNOTS)))


class Planner:
    """Improves a plan (knots, offsets); counts the physics steps that this takes.

    Args:
        world: What is simulated.
        weights: Of the cost.
    """

    def __init__(self, world: World, weights: Weights) -> None:
        self.world, self.weights, self.simulated = world, weights, 0
        self._basis = _linear(np.arange(HORIZON) * TIMESTEP_S / KNOT_S)
        self._shift = _linear(np.minimum(np.arange(KNOTS) + REPLAN_S / KNOT_S, KNOTS - 1))

    @property
    def nothing(self) -> Array:
        """Return the plan that follows the servos alone."""
        return np.zeros((KNOTS, self.world.offsets))

    def later(self, plan: Array) -> Array:
        """Return the plan as it is seen from the next replan."""
        return self._shift @ plan

    def run(self, state: Array, plans: Array, servo: Array) -> tuple[Array, Array]:
        """Simulate plans (samples, knots, offsets); return their states and sensors."""
        self.simulated += len(plans) * len(servo)
        offsets = np.einsum("tk,nkd->ntd", self._basis[: len(servo)], plans)
        return self.world.run(state, offsets, servo)

    def pushes(self, plan: Array, steps: int) -> Array:
        """Return the root's force and torque (steps, 6) in the first steps of a plan."""
        return self.world.pushes(self._basis[:steps] @ plan)

    def cost(self, state: Array, plans: Array, window: Window) -> Array:
        """Return what each plan costs (samples,)."""
        out, sensed = self.run(state, plans, window.servo)
        part = slice(None, None, EVERY)
        total = costs(
            self.weights, self.world.feet, sensed[:, part], self.world.hinges(out[:, part]),
            window.sensors[part], window.angles[part], window.velocities[part],
        )  # fmt: skip
        total += self.weights.offset * (plans**2).sum(axis=(1, 2)) / KNOTS
        return total + self.weights.knot * (np.diff(plans, axis=1) ** 2).sum(axis=(1, 2)) / KNOTS

    def improve(
        self,
        state: Array,
        plan: Array,
        window: Window,
        rng: np.random.Generator,
        *,
        samples: int,
        iterations: int,
        sigma: float,
    ) -> Array:
        """Return the mean of the best plans, or one that goes back to the servos if that is fine.

        Targets stay continuous: the first knot, which is applied now, is kept. Samples leave noise
        in their mean, so nothing is sampled while the servos alone follow closely.
        """
        back = plan.copy()
        back[1:] = 0.0
        if float(self.cost(state, back[None], window)[0]) < FINE:
            return back
        mean, spread = plan, np.full_like(plan, sigma)
        for _ in range(iterations):
            noise = rng.standard_normal((samples, *plan.shape))
            noise[:, 0] = 0.0
            plans = mean + spread * noise
            plans[0], plans[1, 1:] = mean, 0.0
            cost = self.cost(state, plans, window)
            order = np.argsort(cost, kind="stable")[: max(_LEAST_ELITE, samples // _ELITE)]
            mean = plans[order].mean(axis=0)
            spread = 0.5 * spread + 0.5 * plans[order].std(axis=0)
        return mean
