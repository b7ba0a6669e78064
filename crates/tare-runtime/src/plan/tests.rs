use super::*;
use tare_spec::ContainerId;
use tare_spec::runtime::{Namespace, Process};

fn spec() -> Spec {
    let kinds =
        [NamespaceKind::Pid, NamespaceKind::Mount, NamespaceKind::Uts, NamespaceKind::Ipc, NamespaceKind::Network];
    Spec {
        process: Some(Process { args: vec!["sh".into()], cwd: "/".into(), ..Process::default() }),
        linux: Some(Linux {
            namespaces: kinds.into_iter().chain([NamespaceKind::Cgroup]).map(Namespace::new).collect(),
            ..Linux::default()
        }),
        ..Spec::default()
    }
}

fn plan(spec: &Spec) -> Result<Plan, Error> {
    let id = ContainerId::from_random([7; 32]);
    let root = RootFilesystem::Directory("/rootfs".into());
    let request = CreateRequest { id: &id, spec, root, stdio: Stdio::Null, user: None };
    Plan::new(&request, &Hierarchies { v2: Some("/sys/fs/cgroup".into()), ..Hierarchies::default() })
}

fn refusal(change: impl FnOnce(&mut Spec)) -> String {
    let mut spec = spec();
    change(&mut spec);
    plan(&spec).unwrap_err().to_string()
}

fn linux(spec: &mut Spec) -> &mut Linux {
    spec.linux.as_mut().unwrap()
}

fn process(spec: &mut Spec) -> &mut Process {
    spec.process.as_mut().unwrap()
}

#[test]
fn a_plain_container_is_born_into_five_namespaces() {
    let plan = plan(&spec()).unwrap();
    let all = namespaces::PID | namespaces::MOUNT | namespaces::UTS | namespaces::IPC | namespaces::NETWORK;
    assert_eq!((plan.new_namespaces, plan.cgroup_namespace, plan.makes_network()), (all, true, true));
    assert!(plan.cgroup_path.starts_with("tare") && plan.limits.controllers.is_empty());
    assert_eq!(plan.device_rules.len(), 12);
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let some = || Some(serde_json::json!({}));
    assert_eq!(refusal(|spec| spec.hooks = some()), "hooks is not supported");
    assert_eq!(refusal(|spec| linux(spec).intel_rdt = some()), "linux.intelRdt is not supported");
    assert_eq!(refusal(|spec| linux(spec).uid_mappings = some()), "linux.uidMappings is not supported");
    assert_eq!(refusal(|spec| process(spec).scheduler = some()), "process.scheduler is not supported");
    let user = || Namespace::new(NamespaceKind::User);
    assert_eq!(refusal(|spec| linux(spec).namespaces.push(user())), "linux.namespaces: user is not supported");
    assert!(refusal(|spec| linux(spec).cgroups_path = Some("a.slice:b:c".into())).contains("systemd"));
}

#[test]
fn mistakes_are_named() {
    assert_eq!(refusal(|spec| process(spec).args.clear()), "process.args: no command specified");
    assert!(refusal(|spec| process(spec).cwd = "tmp".into()).starts_with("process.cwd:"));
    assert!(refusal(|spec| process(spec).env.push("A=\0".into())).starts_with("process.env:"));
    assert!(refusal(|spec| linux(spec).namespaces.clear()).contains("mount namespace"));
    let twice = |spec: &mut Spec| linux(spec).namespaces.push(Namespace::new(NamespaceKind::Pid));
    assert!(refusal(twice).contains("twice"));
    assert!(refusal(|spec| linux(spec).cgroups_path = Some("/..".into())).contains("no path"));
    assert!(refusal(|spec| linux(spec).masked_paths.push("proc".into())).contains("maskedPaths"));
}

#[test]
fn kernel_parameters_must_belong_to_the_container() {
    let with = |name: &str| {
        let mut spec = spec();
        linux(&mut spec).sysctl.insert(name.into(), "1".into());
        plan(&spec)
    };
    assert_eq!(with("net.ipv4.ip_forward").unwrap().sysctls[0].0, Path::new("net/ipv4/ip_forward"));
    assert_eq!(
        with("net/ipv4/conf/eth0.5/forwarding").unwrap().sysctls[0].0,
        Path::new("net/ipv4/conf/eth0.5/forwarding")
    );
    assert!(with("kernel.shmmax").is_ok());
    for wrong in ["kernel.core_pattern", "vm.swappiness", "net.../x", "net/../kernel/core_pattern", "net.ipv4."] {
        assert!(with(wrong).is_err(), "{wrong}");
    }
    let host_network = refusal(|spec| {
        linux(spec).sysctl.insert("net.ipv4.ip_forward".into(), "1".into());
        linux(spec).namespaces.retain(|namespace| namespace.kind != NamespaceKind::Network);
    });
    assert!(host_network.contains("Network"), "{host_network}");
}

/// CVE-2026-57231: a variable without a value never takes the host's.
#[test]
fn only_whole_variables_get_into_the_environment() {
    let mut spec = spec();
    process(&mut spec).env = vec!["HOME".into(), "A=1".into(), "B=".into()];
    let env = plan(&spec).unwrap().process.env;
    assert_eq!(env, [c"A=1".to_owned(), c"B=".to_owned()]);
}

#[test]
fn own_device_rules_come_between_the_denial_and_the_defaults() {
    let mut spec = spec();
    let rule = |allow, major| DeviceRule { allow, device_type: Some("c".into()), major, minor: Some(1), access: None };
    let deny_all = DeviceRule { allow: false, access: Some("rwm".into()), ..DeviceRule::default() };
    let devices = vec![deny_all.clone(), rule(true, Some(10))];
    linux(&mut spec).resources = Some(Resources { devices, ..Resources::default() });
    let rules = plan(&spec).unwrap().device_rules;
    assert_eq!(rules[0], deny_all);
    assert_eq!(rules[3], rule(true, Some(10)));
    assert_eq!(rules.len(), 13);
}
