# A teacher for a student that finds faces already: what the recipe learnt in parts.py's 480 processor
# seconds, seed 0 (race.py run configs/races/parts.py --out work_dirs/parts), learns on for 240, with a
# teacher and without.
_base_ = ["distill.py"]
_later = [*_base_._modern, "load_from=work_dirs/parts/modern/seed_0/run/latest.pth", "optimizer.lr=0.001"]
race = dict(
    budget_cpu_s=240.0,
    against="alone",
    entries=dict(
        _delete_=True,
        alone=dict(config=_base_._recipe, options=_later),
        distilled=dict(config=_base_._recipe, options=[*_later, *_base_._teacher]),
    ),
)
