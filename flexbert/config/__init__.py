"""The recipe: YAML in, frozen dataclasses out. Plain Python; nothing here imports torch.

Read in this order:

``recipe``           ``Recipe``: every section of one stage, and what belongs to the whole run
``fields``, ``keys``  what a key says of itself: role, scope, bounds, unit; and how it is asked
``registry``         families of swappable components, found by their ``name:``
``plugins``, ``plugin_files``   components from outside, imported when a recipe names them
``model``            the families that a model is composed of, and ``ModelConfig``
``layer_windows``, ``layer_range``, ``layer_plan``   which layers are local; what each layer does
``data``, ``training``, ``optimizer``, ``init_from``, ``callback``, ``profiler``   other sections
``duration``, ``num_bytes``, ``clock``, ``backend_choice``   values with units, and a stage's clock
``remote_address``   where a corpus lies, its password neither shown nor stored
``environment``      texts from ``${oc.env:NAME}``: used by value, stored by reference
``decode``, ``encode``   plain containers to dataclasses and back, refusing what is unexpected
``tree``             merging and comparing nested mappings
``stage_overrides``  stages as overrides of the stage before
``yaml_text``, ``reference_size``   YAML of others, bounded before anything is built of it
``recipe_files``     ``load_recipe``: include, overrides, interpolation, then all of the above

A dataclass says what a key may be. The module that a component builds stands in ``nn``, ``optim``,
``data`` or ``schedule``, next to the component's own fields.
"""
