//! Keys that control the replay of a capture.

use super::{
    keys::Action,
    message::Effect,
    model::{Mode, Model, Time},
    playback::{Order, SECOND_NS},
    update::present,
};

const TEN_NS: u64 = 10 * SECOND_NS;

/// Does what a key asks for.
pub(super) fn act(model: &mut Model, action: Action) -> Option<Effect> {
    let replay = model.replay.as_ref()?;
    let now_ns = now_ns(model)?;
    let wanted = match action {
        Action::Play if replay.paused && replay.seeking.is_none() => Order::Play,
        Action::Play => Order::Pause,
        Action::Faster => Order::Faster,
        Action::Slower => Order::Slower,
        Action::TenBack => Order::To(now_ns.saturating_sub(TEN_NS)),
        Action::TenForward => Order::To(now_ns.saturating_add(TEN_NS)),
        Action::Beginning => Order::To(replay.first_ns),
        Action::NextFailure => Order::NextFailure,
        Action::GoTo => {
            let then = match std::mem::replace(&mut model.mode, Mode::Browse) {
                Mode::Detail(detail) => Some(detail),
                _ => None,
            };
            model.mode = Mode::GoTo { text: String::new(), then };
            return None;
        }
        _ => return None,
    };
    Some(order(model, wanted))
}

/// Passes an order on. But for those that stop time or change its speed they leave what is past.
pub(super) fn order(model: &mut Model, order: Order) -> Effect {
    if matches!(order, Order::Play | Order::To(_) | Order::NextFailure) {
        model.time = Time::Live;
        model.refresh();
    }
    Effect::Replay(order)
}

/// The moment that orders start from: on the way to another, that one.
fn now_ns(model: &Model) -> Option<u64> {
    let replay = model.replay.as_ref()?;
    let target = replay.seeking.and_then(|seeking| seeking.to_ns);
    Some(target.or(present(model).map(|shot| shot.at_ns)).unwrap_or(replay.at_ns))
}

/// Whether time stands at the newest moment, from where one can only step on.
pub(super) fn is_at_newest(model: &Model) -> bool {
    let newest = model.archive.newest().map(|shot| shot.at_ns);
    model.replay.as_ref().is_some_and(|replay| replay.paused && !replay.ended)
        && present(model).map(|shot| shot.at_ns) == newest
}

/// A second on.
pub(super) fn step(model: &mut Model) -> Option<Effect> {
    let to_ns = now_ns(model)?.saturating_add(SECOND_NS);
    Some(order(model, Order::To(to_ns)))
}

/// A moment that is past is shown: time stops. What is older than the moments that are kept is folded in anew.
pub(super) fn went_back(model: &mut Model) -> Option<Effect> {
    let replay = model.replay.as_ref()?;
    (!replay.paused).then_some(Effect::Replay(Order::Pause))
}

/// Goes to a time that was typed.
pub(super) fn go_to(model: &mut Model, text: &str) -> Option<Effect> {
    let now_ns = now_ns(model)?;
    match model.replay.as_ref()?.find(text, now_ns, &model.clock) {
        Ok(at_ns) => Some(order(model, Order::To(at_ns))),
        Err(why) => {
            model.notice = Some(why);
            None
        }
    }
}
