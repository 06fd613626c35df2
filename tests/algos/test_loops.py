"""Each script's own main loop, observed through an environment that records everything."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from conftest import read_metrics
from specs import SCRIPTS, SPECS
from spy import HIGH, LOW, Spy, Watched, watch

BRIEF = "--total-timesteps 120"
DQN, MULTI = "dqn_her_reengage_bitflip", "ddpg_multi_reengage"


def has(*flags: str) -> list[str]:
    """The scripts that have all these flags."""
    return [script for script in SCRIPTS if all(flag in SPECS[script].spied for flag in flags)]


NOISY = has("--exploration-noise")  # actions are vectors
NORMALIZED = has("--normalize")


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Watched]:
    """An observed run of a script in the spy environment, once for the same flags."""
    runs = {}

    def run(script: str, more_flags: str = "") -> Watched:
        if (script, more_flags) not in runs:
            run_dir = tmp_path_factory.mktemp(script) / "run"
            flags = f"{SPECS[script].spied} --seed 4 {more_flags}"
            runs[script, more_flags] = watch(script, flags, run_dir)
        return runs[script, more_flags]

    return run


# What is stored


def stored_episodes(buffer: object) -> list[dict[str, np.ndarray]]:
    """The finished episodes of a buffer that has not lost any, oldest first."""
    data = buffer.data
    found = []
    if "state" in data:  # of ddpg_multi_reengage.py: one episode per row
        finished = buffer.current
        for episode in range(finished):
            length = data["length"][episode]
            rows = {"goal": data["goal"][episode]}
            last = data["next_state"][episode, length - 1 : length]
            rows["obs"] = np.concatenate([data["state"][episode, :length], last])
            for key in ("action", "reward", "terminated"):
                rows[key] = data[key][episode, :length]
            found.append(rows)
        return found
    step = buffer.oldest
    while step < buffer.end:
        stop = data["stop"][step % buffer.size]
        rows = {key: array[np.arange(step, stop) % buffer.size] for key, array in data.items()}
        rows["goal"] = rows["goal"][0]
        rows["obs"] = np.concatenate([rows["obs"], rows["next_obs"][-1:]])
        found.append(rows)
        step = stop
    return found


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_buffer_holds_what_the_environment_showed_and_a_time_limit_is_no_true_end(
    script: str, watched: Callable[..., Watched]
) -> None:
    run = watched(script)
    played = run.finished_episodes()
    stored = stored_episodes(run.buffer)
    assert len(stored) == len(played) > 50
    for ours, theirs in zip(stored, played, strict=True):
        achieved = np.array([obs["achieved_goal"] for obs in theirs.obs])
        obs = np.array([obs["observation"] for obs in theirs.obs])
        if ours["obs"].shape[1] > obs.shape[1]:  # the networks see the achieved goal too
            obs = np.concatenate([obs, achieved], axis=1)
        np.testing.assert_array_equal(ours["obs"], obs)
        later = ours.get("next_achieved_goal", achieved[1:])
        np.testing.assert_array_equal(later, achieved[1:])
        np.testing.assert_array_equal(ours["goal"], theirs.goal)
        actions = np.array(theirs.actions).reshape(len(theirs.actions), -1)
        np.testing.assert_array_equal(ours["action"], actions)
        np.testing.assert_array_equal(ours["reward"].ravel(), np.float32(theirs.rewards))
        np.testing.assert_array_equal(ours["terminated"].ravel(), theirs.terminated)
    falls = [any(episode.terminated) for episode in played]
    assert 5 < sum(falls) < len(falls) - 5  # both kinds of end are among them


# Which actions are taken


def taken(run: Watched, begin: int = 0, end: int = 10**9) -> tuple[np.ndarray, np.ndarray]:
    """What the policy proposed in training, and the actions taken, between two steps: (n, dim)."""
    proposed, actions = [], []
    num_envs = run.envs.num_envs
    in_time = [[] for _ in range(num_envs)]
    for own, spy in zip(in_time, run.training_spies(), strict=True):
        for episode in spy.episodes:
            own += episode.actions
    training = [act for act in run.acts if not act.is_evaluation]
    for step, act in enumerate(training):
        if begin <= act.step < end:
            proposed += list(act.action.reshape(num_envs, -1))
            actions += [own[step].reshape(-1) for own in in_time]
    return np.array(proposed), np.array(actions)


@pytest.mark.parametrize("script", NOISY)
def test_training_actions_are_uniform_before_learning_starts_and_the_policys_with_noise_afterwards(
    script: str, watched: Callable[..., Watched]
) -> None:
    run = watched(script)
    proposed, actions = taken(run, end=60)
    assert 0.5 < actions.std() < 0.65  # of a uniform number in [-1, 1]: 0.58
    assert abs(np.corrcoef(proposed.ravel(), actions.ravel())[0, 1]) < 0.4
    proposed, actions = taken(run, begin=60)
    inside = np.abs(proposed) < 0.4  # where the noise is not cut off
    noise = (actions - proposed)[inside]
    assert len(noise) > 30
    assert 0.15 < noise.std() < 0.25 and abs(noise.mean()) < 0.05  # --exploration-noise 0.2
    assert np.abs(actions).max() <= 1


@pytest.mark.parametrize("script", ["ddpg_her", "ddpg_her_reengage"])
def test_a_uniform_action_replaces_a_training_action_with_the_probability_that_is_given(
    script: str, watched: Callable[..., Watched]
) -> None:
    run = watched(script, "--random-action-prob 0.3 --exploration-noise 0")
    proposed, actions = taken(run, begin=60)
    replaced = (proposed != actions).any(axis=1)
    assert 0.24 < replaced.mean() < 0.36
    assert 0.5 < actions[replaced].std() < 0.65


def test_dqn_acts_by_its_network_but_with_probability_epsilon_at_random(
    watched: Callable[..., Watched],
) -> None:
    run = watched(DQN)
    proposed, actions = taken(run)
    assert {act.network for act in run.acts} == {"q_network"}
    assert 0.25 < (proposed != actions).mean() < 0.35  # 3 of 4 uniform actions differ: 0.3
    others = np.bincount(actions[proposed != actions].astype(int), minlength=4)
    assert np.sort(others)[1] > 10  # all four, but perhaps the one that the network always takes


def test_dqn_acts_by_the_target_networks_softmax_where_that_is_asked_for(
    watched: Callable[..., Watched],
) -> None:
    run = watched(DQN, "--soft-target both-stochastic --temperature 0.7 --epsilon 0")
    training = [act for act in run.acts if not act.is_evaluation]
    assert {act.network for act in training} == {"target_network"}
    assert all(act.how == {"temperature": 0.7} for act in training)
    assert {act.network for act in run.acts if act.is_evaluation} == {"q_network"}
    proposed, actions = taken(run)
    assert (proposed == actions).all()


@pytest.mark.parametrize("script", NORMALIZED)
def test_the_policy_sees_what_it_acts_on_normalised_by_what_was_seen_in_training(
    script: str, watched: Callable[..., Watched]
) -> None:
    run = watched(script)
    for act in run.acts[:: len(run.acts) // 20]:
        both = np.concatenate([act.obs["observation"], act.obs["desired_goal"]], axis=1)
        x = torch.from_numpy(both)
        expected = (x - act.statistics["mean"]) / act.statistics["std"]
        torch.testing.assert_close(act.seen, expected.clamp(-5, 5))

    statistics = run.agent.normalizer
    played = run.finished_episodes()
    steps = sum(len(episode.actions) for episode in played)
    # Each step counts twice, by its state and by the next one; some end after the last round
    assert steps - 20 <= statistics.sums[0, 0] / 2 <= steps
    ends = [(episode.obs[:-1], episode.obs[1:]) for episode in played]
    x = np.array([obs["observation"] for pair in ends for part in pair for obs in part])
    np.testing.assert_allclose(statistics.mean[:2], x.mean(axis=0), atol=0.7)
    np.testing.assert_allclose(statistics.std[:2], x.std(axis=0), rtol=0.2)
    assert len({float(act.statistics["mean"][0]) for act in run.acts}) > 20  # not frozen


@pytest.mark.parametrize("script", NORMALIZED)
def test_without_normalize_the_normaliser_is_not_used(
    script: str, watched: Callable[..., Watched]
) -> None:
    run = watched(script, f"{BRIEF} --no-normalize")
    act = run.acts[-1]
    both = np.concatenate([act.obs["observation"], act.obs["desired_goal"]], axis=1)
    torch.testing.assert_close(act.seen, torch.from_numpy(both))
    assert (run.agent.normalizer.sums == 0).all()


# When and from what it learns


def expected_rounds(run: Watched) -> list[int]:
    """The steps after which a round of updates is due, by the flags alone."""
    args = run.args
    num_envs = run.envs.num_envs
    rounds = []
    if not hasattr(args, "learning_starts"):  # DQN: as soon as num_envs episodes are new
        ends = [
            num_envs * (episode.begins + len(episode.actions))
            for episode in run.finished_episodes()
        ]
        new = 0
        for step in range(num_envs, args.total_timesteps + num_envs, num_envs):
            new += ends.count(step)
            if new >= num_envs:
                rounds.append(step)
                new = 0
        return rounds
    for turn in range(1, args.total_timesteps // num_envs + 1):
        is_due = turn % getattr(args, "train_frequency", 1) == 0
        if is_due and turn * num_envs >= args.learning_starts:
            rounds.append(turn * num_envs)
    return rounds


@pytest.mark.parametrize("script", SCRIPTS)
def test_updates_happen_when_and_as_often_as_the_flags_say(
    script: str, watched: Callable[..., Watched]
) -> None:
    run = watched(script)
    a_round = getattr(run.args, "gradient_steps", 1)
    expected = [step for step in expected_rounds(run) for _ in range(a_round)]
    assert [update.step for update in run.updates] == expected
    assert len(expected) > 50
    assert run.envs.num_envs == getattr(run.args, "num_envs", 1)
    assert all(len(update.batch.reward) == 16 for update in run.updates)  # --batch-size


@pytest.mark.parametrize("script", SCRIPTS)
def test_targets_follow_the_online_networks_by_tau_as_often_as_the_flags_say(
    script: str, watched: Callable[..., Watched]
) -> None:
    run = watched(script)
    every = getattr(run.args, "target_network_frequency", 1)
    for name, online in SPECS[script].targets.items():
        expected = dict(run.initial[online])
        for i, update in enumerate(run.updates, 1):
            if i % every == 0:
                for key, value in expected.items():
                    expected[key] = 0.7 * value + 0.3 * update.online[online][key]  # --tau 0.3
        for key, value in getattr(run.agent, name).named_parameters():
            torch.testing.assert_close(value, expected[key], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_seed_decides_the_initial_weights(script: str, watched: Callable[..., Watched]) -> None:
    name = SPECS[script].policy
    ours = watched(script).initial[name]
    for flags, is_same in ((f"{BRIEF} --tau 0.1", True), (f"{BRIEF} --seed 6", False)):
        theirs = watched(script, flags).initial[name]
        assert all(value.equal(theirs[key]) for key, value in ours.items()) == is_same


@pytest.mark.parametrize("script", has("--alpha"))
def test_the_gradient_term_has_the_weight_that_is_given_and_sees_the_rows_with_the_low_reward(
    script: str, watched: Callable[..., Watched]
) -> None:
    run = watched(script)
    for update in run.updates:
        assert update.curves["gradient/alpha"] == 0.5
        if script != MULTI:
            share = (update.batch.reward == LOW).float().mean().item()
            assert update.curves["gradient/rows"] == pytest.approx(share)
    seen = [update.curves["losses/gradient"].item() for update in run.updates]
    assert np.mean(np.array(seen) > 0) > 0.9


@pytest.mark.parametrize("script", [name for name in has("--alpha") if name != MULTI])
def test_c_low_selects_another_reward(script: str, watched: Callable[..., Watched]) -> None:
    run = watched(script, f"{BRIEF} --c-low {HIGH}")
    for update in run.updates:
        share = (update.batch.reward == HIGH).float().mean().item()
        assert update.curves["gradient/rows"] == pytest.approx(share)


@pytest.mark.parametrize("script", ["ddpg_her_reengage", "sac_her_reengage"])
def test_a_dense_rewards_gradient_reaches_the_update_and_a_sparse_one_has_none(
    script: str, watched: Callable[..., Watched]
) -> None:
    assert all(update.reward_grad is None for update in watched(script).updates)
    run = watched(script, f'{BRIEF} --env-kwargs {{"reward":"dense"}}')
    for update in run.updates:
        difference = update.batch.next_achieved_goal - update.batch.goal
        expected = torch.nn.functional.normalize(difference, dim=1)
        torch.testing.assert_close(update.reward_grad, expected, rtol=1e-4, atol=1e-4)
    run = watched(script, f'{BRIEF} --env-kwargs {{"reward":"dense"}} --alpha 0')
    assert all(update.reward_grad is None for update in run.updates)


# What is evaluated


@pytest.mark.parametrize("script", SCRIPTS)
def test_evaluations_take_the_policys_own_actions_without_noise(
    script: str, watched: Callable[..., Watched]
) -> None:
    run = watched(script)
    proposed = {
        (act.step, row.tobytes())
        for act in run.acts
        if act.is_evaluation
        for row in act.action.reshape(len(act.action), -1).astype(np.float32)
    }
    assert {step for step, _ in proposed} == {0, 150, 300, 450, 600}  # --eval-frequency 150
    rows = {row for _, row in proposed}
    for spy in run.evaluation_spies():
        for episode in spy.episodes:
            for action in episode.actions:
                assert np.float32(action).reshape(-1).tobytes() in rows
    if script == "sac_her_reengage":  # means after tanh, not samples
        assert all(act.how.get("mean_only", True) == act.is_evaluation for act in run.acts)


@pytest.mark.parametrize("script", SCRIPTS)
def test_evaluations_and_training_have_no_seed_in_common(
    script: str, watched: Callable[..., Watched]
) -> None:
    run = watched(script)

    def seeds(spies: list[Spy]) -> list[int]:
        return [episode.seed for spy in spies for episode in spy.episodes]

    training, evaluation = seeds(run.training_spies()), seeds(run.evaluation_spies())
    assert len(training) > 50 and len(evaluation) >= 40
    assert len({*training, *evaluation}) == len(training) + len(evaluation)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_row_of_metrics_is_the_mean_over_the_episodes_that_were_played(
    script: str, watched: Callable[..., Watched]
) -> None:
    run = watched(script)
    rows = read_metrics(run.folder.path)
    assert [row["global_step"] for row in rows] == ["0", "150", "300", "450", "600"]
    spies = run.evaluation_spies()
    assert len(spies) == 4 and all(len(spy.episodes) == 2 * len(rows) for spy in spies)
    for number, row in enumerate(rows):
        # Two rounds of four copies, the last two episodes are not asked for
        played = [spy.episodes[2 * number + turn] for turn in range(2) for spy in spies][:6]
        expected = {
            "success_rate": np.mean([episode.success[-1] for episode in played]),
            "success_once": np.mean([any(episode.success) for episode in played]),
            "episodic_return": np.mean([sum(episode.rewards) for episode in played]),
        }
        for name, value in expected.items():
            assert float(row[name]) == pytest.approx(value)
    assert any(row["success_rate"] != row["success_once"] for row in rows)


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_online_networks_are_saved(script: str, watched: Callable[..., Watched]) -> None:
    run = watched(script)
    model = torch.load(run.folder.path / "model.pt", weights_only=True)
    for name in SPECS[script].networks:
        for key, value in getattr(run.agent, name).state_dict().items():
            assert value.equal(model[name][key])


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_metric_that_decides_comes_first_and_the_return_breaks_ties(
    script: str, watched: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = watched(script)
    metrics = {"success_rate": 0.25, "success_once": 0.5, "episodic_return": -7.0}
    scores = []
    monkeypatch.setattr(run.script, "evaluate", lambda *_: metrics)
    monkeypatch.setattr(run.folder, "add_row", lambda row: None)
    monkeypatch.setattr(run.folder, "save_model", lambda score, **_: scores.append(score))
    run.script.evaluate_and_save(run.folder, run.agent, run.eval_envs, 6, None)
    metric = SPECS[script].metric
    expected = (metrics[metric], -7.0) if metric != "episodic_return" else (-7.0,)
    assert scores == [expected]


@pytest.mark.parametrize("script", SCRIPTS)
def test_constructor_arguments_and_a_time_limit_reach_every_copy(
    script: str, watched: Callable[..., Watched]
) -> None:
    reward = "sets" if script == MULTI else "dense"
    alpha = "--alpha 0" if script in has("--alpha") and reward == "dense" else ""
    kwargs = f'{{"reward":"{reward}"}}'
    run = watched(script, f"{BRIEF} --env-kwargs {kwargs} --max-episode-steps 4 {alpha}")
    for spy in run.training_spies() + run.evaluation_spies():
        assert spy.reward == reward
        assert max(len(episode.actions) for episode in spy.episodes) == 4
