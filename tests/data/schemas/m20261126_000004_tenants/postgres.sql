CREATE TABLE public.agents (
    id text NOT NULL COLLATE pg_catalog."C",
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    command text COLLATE pg_catalog."C",
    required_secrets text NOT NULL COLLATE pg_catalog."C",
    revision bigint NOT NULL,
    kek_id text NOT NULL COLLATE pg_catalog."C",
    wrapped_key bytea NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL
);
CREATE TABLE public.audit_events (
    agent_id text NOT NULL COLLATE pg_catalog."C",
    id text NOT NULL COLLATE pg_catalog."C",
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    at bigint NOT NULL,
    action text NOT NULL COLLATE pg_catalog."C",
    actor text NOT NULL COLLATE pg_catalog."C",
    request_id text NOT NULL COLLATE pg_catalog."C",
    remote text NOT NULL COLLATE pg_catalog."C",
    secrets text NOT NULL COLLATE pg_catalog."C",
    revision bigint NOT NULL,
    run_id text NOT NULL COLLATE pg_catalog."C",
    subject text NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE public.idempotency (
    agent_id text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    request_digest bytea NOT NULL,
    answer text NOT NULL COLLATE pg_catalog."C",
    created_at bigint NOT NULL
);
CREATE TABLE public.keys (
    id text NOT NULL COLLATE pg_catalog."C",
    check_value bytea NOT NULL,
    created_at bigint NOT NULL,
    primary_since bigint
);
CREATE TABLE public.migration_lock (
    id text NOT NULL
);
CREATE TABLE public.seaql_migrations (
    version character varying NOT NULL,
    applied_at bigint NOT NULL
);
CREATE TABLE public.secrets (
    agent_id text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    version bigint NOT NULL,
    sealed bytea NOT NULL,
    fingerprint bytea NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    updated_by text NOT NULL COLLATE pg_catalog."C",
    previous_version bigint,
    previous_sealed bytea,
    previous_fingerprint bytea,
    previous_until bigint
);
CREATE TABLE public.servers (
    id text NOT NULL COLLATE pg_catalog."C",
    keks text NOT NULL COLLATE pg_catalog."C",
    wraps text NOT NULL COLLATE pg_catalog."C",
    seen_at bigint NOT NULL
);
CREATE TABLE public.tenants (
    id text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    created_at bigint NOT NULL,
    deleted_at bigint
);
CREATE TABLE public.tokens (
    id text NOT NULL COLLATE pg_catalog."C",
    hash bytea NOT NULL,
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    scopes text NOT NULL COLLATE pg_catalog."C",
    agents text COLLATE pg_catalog."C",
    email text NOT NULL COLLATE pg_catalog."C",
    created_at bigint NOT NULL,
    expires_at bigint,
    revoked_at bigint
);
INSERT INTO public.agents VALUES ('agt_4Kon5SN9CsL6a2yArFU9Nm', 'ten_default', 'one', NULL, '[]', 2, 'kek_02ese1sjCNwzCBY8x2ooG3', '\x01383e355a1b293ad37c367ef53b893b3bf16c130e83b1949684d2705713a883e49c25ff98dd43582f070f27ba5bcbdbceaf989b70753655aa4058ca6d', 1795715558425740, 1795715558425740);
INSERT INTO public.agents VALUES ('agt_2zr0XODD6BBXzxtA17Q8RD', 'ten_default', 'two', NULL, '[]', 1, 'kek_02ese1sjCNwzCBY8x2ooG3', '\x0128490603cf8eaac9e7f97f61469218fdb3312da9b38a361923e4a4bbaf28ff705e334c3ae878840412065face999d83767fca274b576b957bb791c85', 1795715558840093, 1795715558840093);
INSERT INTO public.audit_events VALUES ('', 'evt_002ulEg3p0qoKrmPwouje6', 'ten_default', 1795715557739547, 'token.create', 'tok_6YZKT8a1rgHiUnikkdhXrY', '', '', '[]', 0, '', 'tok_6YZKT8a1rgHiUnikkdhXrY');
INSERT INTO public.audit_events VALUES ('agt_4Kon5SN9CsL6a2yArFU9Nm', 'evt_002ulEg53x4TwKCOoEnEUm', 'ten_default', 1795715558573841, 'agent.deploy', 'tok_6YZKT8a1rgHiUnikkdhXrY', 'req_4xsva9Kn2m7Ea09d8LC1wj', '127.0.0.1:53698', '[]', 0, '', '');
INSERT INTO public.audit_events VALUES ('agt_4Kon5SN9CsL6a2yArFU9Nm', 'evt_002ulEg5C75TshP1UAKT3M', 'ten_default', 1795715558662341, 'secrets.set', 'tok_6YZKT8a1rgHiUnikkdhXrY', 'req_3ulcALUiTraX8jAoaIlCS4', '127.0.0.1:53712', '[{"key":"A","version":1,"fingerprint":"25aabe62296a"}]', 1, '', '');
INSERT INTO public.audit_events VALUES ('agt_4Kon5SN9CsL6a2yArFU9Nm', 'evt_002ulEg5Kar0Ck3j5UBrOc', 'ten_default', 1795715558754296, 'secrets.set', 'tok_6YZKT8a1rgHiUnikkdhXrY', 'req_1bntJYrB4Wb7icGW9F8EXf', '127.0.0.1:53726', '[{"key":"A","version":2,"fingerprint":"34fe88c2435b"},{"key":"PEM","version":2,"fingerprint":"a7ac0c350445"},{"key":"UNICODE","version":2,"fingerprint":"503b82d65760"}]', 2, '', '');
INSERT INTO public.audit_events VALUES ('agt_2zr0XODD6BBXzxtA17Q8RD', 'evt_002ulEg5VBCwWFMDFK5luN', 'ten_default', 1795715558869089, 'agent.deploy', 'tok_6YZKT8a1rgHiUnikkdhXrY', 'req_2FLyn2JL4NdMOUhVenC6mt', '127.0.0.1:53730', '[]', 0, '', '');
INSERT INTO public.audit_events VALUES ('agt_2zr0XODD6BBXzxtA17Q8RD', 'evt_002ulEg5iXweoOo6KLaFhM', 'ten_default', 1795715559014033, 'secrets.set', 'tok_6YZKT8a1rgHiUnikkdhXrY', 'req_36r6V3r2im2a8FTvl20nnU', '127.0.0.1:53732', '[{"key":"B","version":1,"fingerprint":"b1ab33a222ae"}]', 1, '', '');
INSERT INTO public.keys VALUES ('kek_02ese1sjCNwzCBY8x2ooG3', '\x08183275a29cd7b85e6a14c4bd3c3f88730b4686c6994b870dc3834473b6fbcb', 1795715556824862, 1795715557526392);
INSERT INTO public.migration_lock VALUES ('schema');
INSERT INTO public.seaql_migrations VALUES ('m20261123_000001_initial', 1795715554);
INSERT INTO public.seaql_migrations VALUES ('m20261123_000002_previous', 1795715554);
INSERT INTO public.seaql_migrations VALUES ('m20261126_000003_servers', 1795715554);
INSERT INTO public.seaql_migrations VALUES ('m20261126_000004_tenants', 1795715554);
INSERT INTO public.secrets VALUES ('agt_4Kon5SN9CsL6a2yArFU9Nm', 'A', 2, '\x01c137900bf1e7faca3fdb30b56dc08979568d642bde46473a82aff3a444bb2768cadd812ea3aae6ec1a7a6e47c6c0b08e768714b5e6f8a6e12f231c27ad1bcd9f2c5524f38f42b2d169e741295f370300668ebf3009e724ac0b5eca76adae64c108724a1a66d440772f53ad091c832958903ec7fde92db7dc66f68c0d181fdd0247a74a53658a2484d7a9d1426660ab8d0cdba745223d2dea2af526b1', '\x34fe88c2435b5bfe9c3d8d84a63b436d21fbfc634cca57c1680dc1b738579399', 1795715558662228, 1795715558754157, 'tok_6YZKT8a1rgHiUnikkdhXrY', NULL, NULL, NULL, NULL);
INSERT INTO public.secrets VALUES ('agt_4Kon5SN9CsL6a2yArFU9Nm', 'PEM', 2, '\x01928af5096dff0c834f551633aa15dfd10f9ffe48f5b3c25f883b1d5456935d7329a7f3130adaf5a9a83f7ef8d5987055529644911ab53b46efc26ce3f236646ae2f6b09dda3d8b8626da60a6a3bf92aa4a1ea9df6d2dab74a9a8c150fe4de6f8618352219a9d2aadc5726e04ed8ddc5c6d7b6d38702ea9a35ddb6483d5313ed1773d24a8ee632180a173b820f0dbb052d9095fd9cd7485499ef1347b', '\xa7ac0c3504452e5a075d47f172f8947e692a6cb53afdea138dca6fefaac377ed', 1795715558754157, 1795715558754157, 'tok_6YZKT8a1rgHiUnikkdhXrY', NULL, NULL, NULL, NULL);
INSERT INTO public.secrets VALUES ('agt_4Kon5SN9CsL6a2yArFU9Nm', 'UNICODE', 2, '\x01b7b5d098d1f805550df8e3a19bc47ab3a3426fd1aaad401ad7b63789673dbab63e8da6b7ebce54ede3e9f62c0869559320487b320247452273624a54f570385de83d2ddc25ed94676705aae47ff9a28703917b0c7deadfcfae79fe80a56c2edb24cef9fc20a6950ea3f42e804daf9e5e3cd24234b6ab72cce88039eb786a3d1aae07d3cc215ecbcd2f49c518b4c186ad3305d4e894eb48db9160ad79', '\x503b82d657605e8881385d1860817853f1b9484868ea63045325147a5cd7e806', 1795715558754157, 1795715558754157, 'tok_6YZKT8a1rgHiUnikkdhXrY', NULL, NULL, NULL, NULL);
INSERT INTO public.secrets VALUES ('agt_2zr0XODD6BBXzxtA17Q8RD', 'B', 1, '\x01bba94b717c448309955960645531e4ed2a3b605038195dbb53ecf078877ab85c61f34aa7f0c113f50e038864c210379edca628fbe7fd56c1d69afc3597792f953297b5e3d87dd4e401e1db585d583d3ab5f1e95fb6e3d025061431a4b651d8367c157ebc22032416c451e4b1e001477baa9a325e93df03422858cbcba4b72589edc0163dddbbed2fd5754d9d32e3112d695633d7c12ca71fb01de2f4bb570e95241a548e42c3b8fb7fcb344a1788d94891137d81eb2186c4d9e777457a105dbc08f278e8d6d518dd43a072b1acca6c643521300da468527e82c366073df7d2e32bb1e7c43a33dbc3d51c87782b86d3ad9e9517ed9e1a2d0bcc69a1f87f8f6924d180997801b8c87c1a0f51e005f7e29fd80c48264ba34fc63a2b78d41f2a19c5f21fa68c9ef1fd2236b2951faa9a795d2a749bf52712553f03f6715fe9020491caff108fc2c905e03541bd5ba914bf50a89e7957281d5ecd98a2eb352743d9ecfb21c6a66cd1a3d6e1d7f6e25039b54795d58c7704832abe116f7c6957042a96cd87a7af423e6b6494e21d967b4b3746dae3576a57d0e1e7bd138d4cf212d3325fe85406ca8ded6e7ec5204e4d0ec6959f8f71d4808f559c29800bce2cb0b805da5c9d32e895e32b57bf6b87913005fbd75e81f0788a5cd19e12ec27df6e3347ebfef74825108886d2f5d02fdf4708fbb338670175cf3af41667870dadba23e984752d70a9256e72522dc39e168f52dd4b269f4b75f96da9b7c0998b', '\xb1ab33a222ae8d39bc1337b657a54849144271562d463d6d5162d6c8522eb49a', 1795715559013928, 1795715559013928, 'tok_6YZKT8a1rgHiUnikkdhXrY', NULL, NULL, NULL, NULL);
INSERT INTO public.tenants VALUES ('ten_default', 'default', 1795715554503587, NULL);
INSERT INTO public.tokens VALUES ('tok_6YZKT8a1rgHiUnikkdhXrY', '\x33da029d6c213001c92be1937ea6100a43be7b7d436c1cf9bd2b4e42223995cc', 'ten_default', 'admin', 'agents:read agents:write audit:read secrets:list secrets:write tokens:admin', NULL, '', 1795715557739539, NULL, NULL);
ALTER TABLE ONLY public.agents
    ADD CONSTRAINT agents_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.audit_events
    ADD CONSTRAINT audit_events_pkey PRIMARY KEY (agent_id, id);
ALTER TABLE ONLY public.idempotency
    ADD CONSTRAINT idempotency_pkey PRIMARY KEY (agent_id, name);
ALTER TABLE ONLY public.keys
    ADD CONSTRAINT keys_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.migration_lock
    ADD CONSTRAINT migration_lock_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.seaql_migrations
    ADD CONSTRAINT seaql_migrations_pkey PRIMARY KEY (version);
ALTER TABLE ONLY public.secrets
    ADD CONSTRAINT secrets_pkey PRIMARY KEY (agent_id, name);
ALTER TABLE ONLY public.servers
    ADD CONSTRAINT servers_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.tenants
    ADD CONSTRAINT tenants_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.tokens
    ADD CONSTRAINT tokens_pkey PRIMARY KEY (id);
CREATE UNIQUE INDEX agents_tenant_name ON public.agents USING btree (tenant_id, name);
CREATE INDEX audit_events_named_run ON public.audit_events USING btree (agent_id, run_id, id) WHERE (run_id <> ''::text);
CREATE INDEX audit_events_tenant ON public.audit_events USING btree (tenant_id, id);
CREATE INDEX secrets_previous_until ON public.secrets USING btree (previous_until) WHERE (previous_until IS NOT NULL);
CREATE UNIQUE INDEX tenants_name ON public.tenants USING btree (name);
CREATE UNIQUE INDEX tokens_hash ON public.tokens USING btree (hash);
CREATE INDEX tokens_tenant ON public.tokens USING btree (tenant_id, created_at, id);
