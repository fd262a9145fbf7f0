// OHIF's app-config.js for one archive and Segwire. What belongs to Segwire is `extensions` alone (docs/ohif.md).
window.config = {
  routerBasename: "/",
  modes: [],
  showStudyList: true,
  extensions: [
    {
      id: "segwire",
      // Not awaited and never thrown on: OHIF starts whether Segwire answers or not.
      preRegistration: (ohif) => {
        import("https://segwire.example.org/static/frontend_bridge/ohif.js").then(
          (segwire) => segwire.install(ohif),
          (error) => console.warn("Segwire does not answer; there is no AI analysis.", error),
        );
      },
    },
  ],
  defaultDataSourceName: "archive",
  dataSources: [
    {
      namespace: "@ohif/extension-default.dataSourcesModule.dicomweb",
      sourceName: "archive",
      configuration: {
        friendlyName: "Archive",
        name: "archive",
        qidoRoot: "/dicom-web",
        wadoRoot: "/dicom-web",
        wadoUriRoot: "/dicom-web",
        imageRendering: "wadors",
        thumbnailRendering: "wadors",
        enableStudyLazyLoad: true,
        qidoSupportsIncludeField: false,
        supportsFuzzyMatching: false,
        supportsWildcard: true,
        omitQuotationForMultipartRequest: true,
        bulkDataURI: { enabled: true, relativeResolution: "studies" },
      },
    },
  ],
};
