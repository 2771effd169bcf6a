"""The recipe: YAML in, frozen dataclasses out. Plain Python; nothing here imports torch.

Read in this order:

``recipe``           ``Recipe``: every section of one stage, and what belongs to the whole run
``fields``           what a key says where it is declared: role, scope, bounds, unit
``keys``             every key of a recipe by its name, with its declaration
``registry``         families of swappable components, found by their ``name:``
``model``            the families that a model is composed of, and ``ModelConfig``
``layer_plan``       what each layer does: attention, window, theta
``data``, ``training``, ``optimizer``, ``init_from``   the other sections
``duration``, ``num_bytes``, ``clock``   values with units, and how far a stage is
``decode``, ``encode``   plain containers to dataclasses and back, refusing what is unexpected
``tree``             merging and comparing nested mappings
``stage_overrides``  stages as overrides of the stage before
``recipe_files``     ``load_recipe``: include, overrides, interpolation, then all of the above

A dataclass says what a key may be. The module that a component builds stands in ``nn``, ``optim``,
``data`` or ``schedule``, next to the component's own fields.
"""
