// States that lanes exchange as they are, for `rows/tree.wgsl` and `rows/subgroup.wgsl`: of programs that have no smaller ones.

alias Joined = State;

fn narrow(state: State) -> Joined {
    return state;
}

fn wide(joined: Joined) -> State {
    return joined;
}
