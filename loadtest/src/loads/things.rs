//! What happens on an ordinary bad day, one thing after the other and chosen at random: hints change, phones subscribe,
//! refresh, leave, reboot, die. Loads differ in how many there are of each.

use super::{Site, other_state};
use crate::http::Feeder;
use crate::lamp::State;
use crate::phone::Stage;
use crate::wire::Package;

/// Of a thousand things: changes of a hint; of phones with a subscription: who leaves, reboots (a new dialog, and no word
/// about the old one), dies without a word, or says nothing until it expires. All others refresh.
#[derive(Clone, Copy, Default)]
pub struct Mix {
    pub changes: u32,
    pub leaves: u32,
    pub reboots: u32,
    pub dies: u32,
    pub sleeps: u32,
}

/// Something happens to a phone or a resource.
pub fn one_thing(site: &mut Site<'_>, feeder: &Feeder, mix: &Mix) {
    let index = site.field.random.below(site.options.count());
    let choice = site.field.random.below(1000);
    if choice < mix.changes {
        let resource = site.field.random.below(site.options.resources());
        change(site, feeder, resource);
        return;
    }
    let phone = &site.field.phones[index as usize];
    if phone.waits() {
        return;
    }
    match phone.stage {
        Stage::Off | Stage::Gone | Stage::Dead => site.field.subscribe(index),
        Stage::Active => one_of_a_subscription(site, index, choice - mix.changes, mix),
        // Who was refused for now comes when it may.
        Stage::Subscribing | Stage::Leaving | Stage::Refused => {}
    }
}

fn one_of_a_subscription(site: &mut Site<'_>, index: u32, choice: u32, mix: &Mix) {
    let reboots = mix.leaves + mix.reboots;
    let dies = reboots + mix.dies;
    if choice < mix.leaves {
        site.field.unsubscribe(index);
    } else if choice < reboots {
        site.field.seen.reboots += 1;
        site.field.subscribe(index);
    } else if choice < dies {
        site.field.die(index);
    } else if choice < dies + mix.sleeps {
        // It keeps silent until its subscription has expired.
        site.field.phones[index as usize].sleeps = true;
    } else if !site.field.phones[index as usize].sleeps {
        site.field.refresh(index);
    }
}

/// Another state than this resource has.
pub fn change(site: &mut Site<'_>, feeder: &Feeder, resource: u32) {
    let state = match site.field.plan.package {
        Package::Dialog | Package::Presence => {
            let states = [State::Idle, State::Ringing, State::InUse, State::Hold];
            other_state(&mut site.field, resource, &states)
        }
        Package::MessageSummary => State::Messages(site.field.random.below(1000) + 1),
    };
    site.field.change(resource, state);
    let name = &site.field.resources[resource as usize].name;
    feeder.set(name, state.json());
}
