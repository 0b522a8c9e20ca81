"""The methods that are compared: one module each, named as the method's key in params.yaml.

    loss = mean_i CE(z(x_i, ω), y_i) + α · Ω_shared + β · ½‖ω_P‖²        (Equations (6) and (7))

A module holds one class: its fields are its section of params.yaml, `shared_penalty` is its Ω_shared. To add a method,
write its module, give it a section in params.yaml and name it in `methods` there; nothing else is trained again.
"""
